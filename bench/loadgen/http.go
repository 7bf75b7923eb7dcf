package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"time"
)

// httpConnection keeps one socket open for each operation in flight; HTTP/1.1, JSON in and out.
type httpConnection struct {
	client *http.Client
	base   string
	put    func(base, key string, value []byte) (*http.Request, error)
	get    func(base, key string) (*http.Request, error)
	found  []byte // in the answer to every get that found its row
}

func dialHTTP(endpoint string, outstanding int) *httpConnection {
	transport := &http.Transport{MaxIdleConnsPerHost: outstanding, DisableCompression: true}
	return &httpConnection{
		client: &http.Client{Transport: transport, Timeout: 10 * time.Second},
		base:   "http://" + endpoint,
	}
}

func dialNeumannHTTP(endpoint string, load *workload) (connection, error) {
	c := dialHTTP(endpoint, load.outstanding)
	c.put = func(base, key string, value []byte) (*http.Request, error) {
		body := fmt.Sprintf("\"%s\"", value)
		return http.NewRequest("PUT", base+"/kv/"+table+"/"+key, bytes.NewBufferString(body))
	}
	c.get = func(base, key string) (*http.Request, error) {
		return http.NewRequest("GET", base+"/kv/"+table+"/"+key, nil)
	}
	c.found = []byte("\"")
	return c, nil
}

// dialEtcdHTTP is for etcd's own gateway from JSON to gRPC, on the port that also serves gRPC.
func dialEtcdHTTP(endpoint string, load *workload) (connection, error) {
	c := dialHTTP(endpoint, load.outstanding)
	encode := base64.StdEncoding.EncodeToString
	c.put = func(base, key string, value []byte) (*http.Request, error) {
		body := fmt.Sprintf(`{"key":"%s","value":"%s"}`, encode([]byte(key)), encode(value))
		return http.NewRequest("POST", base+"/v3/kv/put", bytes.NewBufferString(body))
	}
	c.get = func(base, key string) (*http.Request, error) {
		body := fmt.Sprintf(`{"key":"%s"}`, encode([]byte(key)))
		return http.NewRequest("POST", base+"/v3/kv/range", bytes.NewBufferString(body))
	}
	c.found = []byte(`"count":"1"`)
	return c, nil
}

func (c *httpConnection) close() { c.client.CloseIdleConnections() }

func (c *httpConnection) run(load *workload, seed int64, result *recorder) {
	runBlocking(load, seed, result, c.do)
}

func (c *httpConnection) do(load *workload, from *source, key string) string {
	reads := from.reads()
	var request *http.Request
	var err error
	if reads {
		request, err = c.get(c.base, key)
	} else {
		request, err = c.put(c.base, key, from.value)
	}
	if err != nil {
		return err.Error()
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := c.client.Do(request)
	if err != nil {
		return err.Error()
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return err.Error()
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Sprintf("%s: %.200s", answer.Status, body)
	}
	if reads && !bytes.Contains(body, c.found) {
		return fmt.Sprintf("no row for %s: %.200s", key, body)
	}
	return ""
}
