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
	connections int
	outstanding int
	rate        float64 // 0: closed loop
	keys        int
	valueBytes  int
	batch       int

	countFrom, countUntil time.Time
	filled                int64 // keys handed out by "fill"
}

func (load *workload) valid() bool {
	known := map[string]bool{"fill": true, "put": true, "get": true, "mixed": true, "bulk": true}[load.kind]
	return known && load.connections > 0 && load.rate >= 0 && load.outstanding > 0 && load.keys > 0 && load.valueBytes > 0 && load.batch > 0
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

// reads says whether the next operation is a get.
func (s *source) reads() bool {
	return s.load.kind == "get" || s.load.kind == "mixed" && s.random.Intn(2) == 0
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
