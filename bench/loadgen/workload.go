package main

import (
	"fmt"
	"math/rand"
	"sync/atomic"
	"time"
)

// workload is what is asked for, and the window in which it is counted; shared by all connections.
type workload struct {
	kind        string
	outstanding int
	keys        int
	valueBytes  int
	batch       int

	countFrom, countUntil time.Time
	filled                int64 // keys handed out by "fill"
}

func (load *workload) valid() bool {
	known := load.kind == "fill" || load.kind == "put" || load.kind == "get" || load.kind == "bulk"
	return known && load.outstanding > 0 && load.keys > 0 && load.valueBytes > 0 && load.batch > 0
}

// source draws the operations of one goroutine.
type source struct {
	load   *workload
	random *rand.Rand
	value  []byte
}

func newSource(load *workload, seed int64) *source {
	random := rand.New(rand.NewSource(seed))
	value := make([]byte, load.valueBytes)
	for i := range value {
		value[i] = byte('a' + random.Intn(26))
	}
	return &source{load, random, value}
}

func keyName(number int) string { return fmt.Sprintf("key-%08d", number) }

// next is the key of the next operation; false when the workload has ended.
func (s *source) next(now time.Time) (string, bool) {
	if s.load.kind == "fill" {
		number := int(atomic.AddInt64(&s.load.filled, 1)) - 1
		return keyName(number), number < s.load.keys
	}
	return keyName(s.random.Intn(s.load.keys)), now.Before(s.load.countUntil)
}

// rows are the distinct keys of one batch: a run of neighbours that begins at key.
func (s *source) rows() []string {
	first := s.random.Intn(s.load.keys)
	keys := make([]string, s.load.batch)
	for i := range keys {
		keys[i] = keyName((first + i) % s.load.keys)
	}
	return keys
}

// recorder is what one connection saw.
type recorder struct {
	latencies  []time.Duration
	errors     int
	firstError string
}

func (r *recorder) answered(load *workload, sent, now time.Time) {
	if !now.Before(load.countFrom) && (load.kind == "fill" || now.Before(load.countUntil)) {
		r.latencies = append(r.latencies, now.Sub(sent))
	}
}

func (r *recorder) failed(text string) {
	r.errors++
	if r.firstError == "" {
		r.firstError = text
	}
}
