package main

import (
	"sync"
	"time"
)

// operation is one put, get or batch, and its answer; "" or what went wrong.
type operation func(load *workload, from *source, key string) string

// runBlocking is the loop of the drivers whose calls block: a goroutine for each operation in flight.
func runBlocking(load *workload, seed int64, result *recorder, do operation) {
	parts := make([]recorder, load.outstanding)
	var running sync.WaitGroup
	for i := range parts {
		running.Add(1)
		go func(i int) {
			defer running.Done()
			do.loop(load, newSource(load, seed*1000+int64(i)), &parts[i])
		}(i)
	}
	running.Wait()
	for i := range parts {
		result.latencies = append(result.latencies, parts[i].latencies...)
		result.errors += parts[i].errors
		if result.firstError == "" {
			result.firstError = parts[i].firstError
		}
	}
}

func (do operation) loop(load *workload, from *source, result *recorder) {
	for {
		sent := time.Now()
		key, more := from.next(sent)
		if !more {
			return
		}
		if failure := do(load, from, key); failure != "" {
			result.failed(failure)
			if result.errors > 100 {
				return
			}
			continue
		}
		result.answered(load, sent, time.Now())
	}
}
