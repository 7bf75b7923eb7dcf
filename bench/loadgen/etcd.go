//go:build etcd

package main

import (
	"context"
	"time"

	"go.etcd.io/etcd/clientv3"
)

func init() { dialers["etcd"] = dialEtcd }

// etcdConnection is one gRPC connection; each operation in flight is a goroutine, as in etcd's own
// benchmark tool.
type etcdConnection struct{ client *clientv3.Client }

func dialEtcd(endpoint string, _ *workload) (connection, error) {
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   []string{endpoint},
		DialTimeout: 5 * time.Second,
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if _, err = client.Get(ctx, "dial"); err != nil {
		return nil, err
	}
	return &etcdConnection{client}, nil
}

func (c *etcdConnection) close() { c.client.Close() }

func (c *etcdConnection) run(load *workload, seed int64, result *recorder) {
	runBlocking(load, seed, result, c.do)
}

// do is one operation; "" or what went wrong.
func (c *etcdConnection) do(load *workload, from *source, key string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var err error
	switch {
	case from.reads():
		var answer *clientv3.GetResponse
		if answer, err = c.client.Get(ctx, key); err == nil && len(answer.Kvs) != 1 {
			return "no row for " + key
		}
	case load.kind == "bulk":
		operations := make([]clientv3.Op, 0, load.batch)
		for _, row := range from.rows() {
			operations = append(operations, clientv3.OpPut(row, string(from.value)))
		}
		_, err = c.client.Txn(ctx).Then(operations...).Commit()
	default:
		_, err = c.client.Put(ctx, key, string(from.value))
	}
	if err != nil {
		return err.Error()
	}
	return ""
}
