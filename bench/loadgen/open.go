package main

import (
	"math/rand"
	"sync/atomic"
	"time"
)

// runAtRate is the open loop: an operation begins each time one is due, and is timed from then, so that
// a server that stalls is charged with what would have been asked of it meanwhile. The connections share
// the rate evenly, each with a phase of its own.
func (c *neumannConnection) runAtRate(load *workload, seed int64, result *recorder) {
	dueAt := make([]int64, load.outstanding) // by slot, in ns after the beginning
	begin := time.Now()
	free := make(chan int, load.outstanding)
	for slot := range dueAt {
		free <- slot
	}
	var ended int32
	broken := make(chan struct{})
	go func() {
		defer close(broken)
		for {
			slot, failure, err := c.answer()
			if err != nil {
				if atomic.LoadInt32(&ended) == 0 {
					result.failed(err.Error())
				}
				return
			}
			due := begin.Add(time.Duration(atomic.LoadInt64(&dueAt[slot])))
			if failure != "" {
				result.failed(failure)
			} else if !due.Before(load.countFrom) {
				result.latencies = append(result.latencies, time.Since(due))
			}
			free <- slot
		}
	}()

	from := newSource(load, seed)
	every := time.Duration(float64(time.Second) * float64(load.connections) / load.rate)
	due := begin.Add(time.Duration(rand.New(rand.NewSource(seed)).Int63n(int64(every))))
	for {
		key, more := from.next(due)
		if !more {
			break
		}
		if wait := time.Until(due); wait > 0 {
			c.out.Flush()
			time.Sleep(wait)
		}
		slot, open := c.slot(free, broken)
		if !open {
			return
		}
		atomic.StoreInt64(&dueAt[slot], int64(due.Sub(begin)))
		c.request(load, from, slot, key)
		due = due.Add(every)
	}
	for range dueAt { // all answered
		if _, open := c.slot(free, broken); !open {
			return
		}
	}
	atomic.StoreInt32(&ended, 1)
	c.socket.SetReadDeadline(time.Now())
	<-broken
}

// slot waits for one that is free; false if the connection broke.
func (c *neumannConnection) slot(free chan int, broken chan struct{}) (slot int, open bool) {
	select {
	case slot = <-free:
		return slot, true
	default:
	}
	c.out.Flush()
	select {
	case slot = <-free:
		return slot, true
	case <-broken:
		return 0, false
	}
}
