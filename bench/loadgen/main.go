// The load generator: the same load against etcd and against neumann.
//
// A closed loop of C connections, each with M operations in flight: as one is answered, the next one is
// sent. Or with -rate an open loop (open.go). Keys are drawn with a fixed seed, values are fixed bytes.
// What completes in the warm-up is not counted. It prints one JSON object; a wrong or failed answer is
// counted in "errors" and its text is in "error".
//
//	loadgen -target TARGET -endpoint HOST:PORT[,...] -workload fill|put|get|mixed|bulk [flags]
//
// The drivers etcd.go and neumann.go each keep one connection busy in the way that suits their protocol
// best: a goroutine for each operation in flight over gRPC, one goroutine a connection over
// MessagePack-RPC. http.go speaks to both with curl's requests. etcd.go needs the build tag etcd.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sort"
	"strings"
	"sync"
	"time"
)

// connection keeps operations in flight until its workload ends, then waits for the last answers.
type connection interface {
	run(load *workload, seed int64, result *recorder)
	close()
}

type dialer func(endpoint string, load *workload) (connection, error)

var dialers = map[string]dialer{
	"neumann":      dialNeumann,
	"neumann-http": dialNeumannHTTP,
	"etcd-http":    dialEtcdHTTP,
}

func main() {
	var load workload
	target := flag.String("target", "", "etcd, etcd-http, neumann or neumann-http")
	endpoint := flag.String("endpoint", "", "HOST:PORT; several with commas share the connections")
	seconds := flag.Float64("seconds", 5, "measured time")
	warmup := flag.Float64("warmup", 1, "time before that, not counted")
	seed := flag.Int64("seed", 1, "of the drawn keys")
	flag.StringVar(&load.kind, "workload", "put",
		"fill: each key once; put, get: drawn keys; mixed: either; bulk: batches of drawn keys")
	flag.IntVar(&load.connections, "connections", 8, "connections")
	flag.Float64Var(&load.rate, "rate", 0, "operations a second in an open loop, neumann only; 0: a closed loop")
	flag.IntVar(&load.outstanding, "outstanding", 32, "operations in flight on each connection")
	flag.IntVar(&load.keys, "keys", 10000, "number of keys")
	flag.IntVar(&load.valueBytes, "value-bytes", 100, "bytes of a value")
	flag.IntVar(&load.batch, "batch", 100, "rows of a batch")
	flag.Parse()

	dial := dialers[*target]
	if dial == nil || !load.valid() || load.rate > 0 && *target != "neumann" {
		flag.Usage()
		os.Exit(2)
	}
	endpoints := strings.Split(*endpoint, ",")
	opened := make([]connection, load.connections)
	for i := range opened {
		var err error
		at := endpoints[i%len(endpoints)]
		if opened[i], err = dial(at, &load); err != nil {
			fmt.Fprintf(os.Stderr, "loadgen: %s at %s: %v\n", *target, at, err)
			os.Exit(1)
		}
		defer opened[i].close()
	}

	begin := time.Now()
	load.countFrom = begin.Add(time.Duration(*warmup * float64(time.Second)))
	load.countUntil = load.countFrom.Add(time.Duration(*seconds * float64(time.Second)))
	if load.kind == "fill" {
		load.countFrom = begin
	}
	results := make([]recorder, load.connections)
	var running sync.WaitGroup
	for i := range opened {
		running.Add(1)
		go func(i int) {
			defer running.Done()
			opened[i].run(&load, *seed*1000+int64(i), &results[i])
		}(i)
	}
	running.Wait()
	if load.kind == "fill" {
		load.countUntil = time.Now()
	}
	report(&load, results)
}

func report(load *workload, results []recorder) {
	var all []time.Duration
	errors, firstError := 0, ""
	for i := range results {
		all = append(all, results[i].latencies...)
		errors += results[i].errors
		if firstError == "" {
			firstError = results[i].firstError
		}
	}
	sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
	quantile := func(q float64) float64 {
		if len(all) == 0 {
			return 0
		}
		return float64(all[int(q*float64(len(all)-1))]) / 1e6
	}
	elapsed := load.countUntil.Sub(load.countFrom).Seconds()
	rows := len(all)
	if load.kind == "bulk" {
		rows *= load.batch
	}
	json.NewEncoder(os.Stdout).Encode(map[string]interface{}{
		"operations": len(all),
		"rate":       float64(rows) / elapsed,
		"p50_ms":     quantile(0.50),
		"p99_ms":     quantile(0.99),
		"max_ms":     quantile(1),
		"errors":     errors,
		"error":      firstError,
	})
}
