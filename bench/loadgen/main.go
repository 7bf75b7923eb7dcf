// The load generator: the same closed loop against etcd and against neumann.
//
// C connections, each with M operations in flight: as one is answered, the next one is sent. Keys are
// drawn with a fixed seed, values are fixed bytes. What completes in the warm-up is not counted. It
// prints one JSON object; a wrong or failed answer is counted in "errors" and its text is in "error".
//
//	loadgen -target etcd|neumann -endpoint HOST:PORT -workload fill|put|get|bulk [flags]
//
// The two drivers, etcd.go and neumann.go, each keep one connection busy in the way that suits their
// protocol best: a goroutine for each operation in flight over gRPC, one goroutine a connection over
// MessagePack-RPC.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sort"
	"sync"
	"time"
)

// connection keeps operations in flight until its workload ends, then waits for the last answers.
type connection interface {
	run(load *workload, seed int64, result *recorder)
	close()
}

func main() {
	var load workload
	target := flag.String("target", "", "etcd or neumann")
	endpoint := flag.String("endpoint", "", "HOST:PORT of the leader")
	connections := flag.Int("connections", 8, "connections")
	seconds := flag.Float64("seconds", 5, "measured time")
	warmup := flag.Float64("warmup", 1, "time before that, not counted")
	seed := flag.Int64("seed", 1, "of the drawn keys")
	flag.StringVar(&load.kind, "workload", "put", "fill: each key once; put, get: drawn keys; bulk: batches of drawn keys")
	flag.IntVar(&load.outstanding, "outstanding", 32, "operations in flight on each connection")
	flag.IntVar(&load.keys, "keys", 10000, "number of keys")
	flag.IntVar(&load.valueBytes, "value-bytes", 100, "bytes of a value")
	flag.IntVar(&load.batch, "batch", 100, "rows of a batch")
	flag.Parse()

	dial := map[string]func(string) (connection, error){"etcd": dialEtcd, "neumann": dialNeumann}[*target]
	if dial == nil || !load.valid() || *connections < 1 {
		flag.Usage()
		os.Exit(2)
	}
	opened := make([]connection, *connections)
	for i := range opened {
		var err error
		if opened[i], err = dial(*endpoint); err != nil {
			fmt.Fprintf(os.Stderr, "loadgen: %s at %s: %v\n", *target, *endpoint, err)
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
	results := make([]recorder, *connections)
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
