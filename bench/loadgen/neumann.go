package main

import (
	"bufio"
	"fmt"
	"net"
	"time"
)

// neumannConnection is one MessagePack-RPC connection with a goroutine that reads answers and sends the
// next request for each; what it sends leaves in one write when no further answer is buffered.
type neumannConnection struct {
	socket net.Conn
	in     *bufio.Reader
	out    *bufio.Writer
	buffer []byte
}

const table = "bench"

func dialNeumann(endpoint string, _ *workload) (connection, error) {
	socket, err := net.DialTimeout("tcp", endpoint, 5*time.Second)
	if err != nil {
		return nil, err
	}
	c := &neumannConnection{socket: socket}
	c.in, c.out = bufio.NewReaderSize(socket, 1<<16), bufio.NewWriterSize(socket, 1<<16)
	hello := appendString(append(c.buffer, 0x94, 0x00, 0x00), "hello")
	c.out.Write(append(hello, 0x94, 0x01, 0xc0, 0xc0, 0xc0)) // protocol 1, no token, nothing pinned
	if err = c.out.Flush(); err != nil {
		return nil, err
	}
	_, failure, err := c.answer()
	if err == nil && failure != "" {
		err = fmt.Errorf("hello: %s", failure)
	}
	return c, err
}

func (c *neumannConnection) close() { c.socket.Close() }

func (c *neumannConnection) run(load *workload, seed int64, result *recorder) {
	if load.rate > 0 {
		c.runAtRate(load, seed, result)
		return
	}
	from := newSource(load, seed)
	sentAt := make([]time.Time, load.outstanding)
	inFlight := 0
	send := func(slot int, now time.Time) {
		if key, more := from.next(now); more && result.errors <= 100 {
			c.request(load, from, slot, key)
			sentAt[slot] = now
			inFlight++
		}
	}
	for slot := range sentAt {
		send(slot, time.Now())
	}
	for inFlight > 0 {
		if c.in.Buffered() == 0 {
			c.out.Flush()
		}
		slot, failure, err := c.answer()
		if err != nil {
			result.failed(err.Error())
			return
		}
		now := time.Now()
		if failure != "" {
			result.failed(failure)
		} else {
			result.answered(load, sentAt[slot], now)
		}
		inFlight--
		send(slot, now)
	}
}

// request appends [0, slot, method, params] to what will be sent.
func (c *neumannConnection) request(load *workload, from *source, slot int, key string) {
	b := append(c.buffer[:0], 0x94, 0x00, 0xcd, byte(slot>>8), byte(slot))
	if from.reads() {
		b = append(appendString(b, "get"), 0x93)
		b = append(appendString(appendString(b, table), key), 0xc2)
	} else {
		var command []byte
		if load.kind == "bulk" {
			command = batchCommand(from.rows(), from.value)
		} else {
			command = putCommand(key, from.value)
		}
		b = append(appendString(b, "write"), 0x91)
		b = appendBinary(b, command)
	}
	c.buffer = b
	c.out.Write(b)
}

// putCommand is [1, table, key, nil, 0, 0, value]; the value is a binary in MessagePack.
func putCommand(key string, value []byte) []byte {
	b := appendString(appendString([]byte{0x97, 0x01}, table), key)
	return appendBinary(append(b, 0xc0, 0x00, 0x00), appendBinary(nil, value))
}

// batchCommand is [3, "", "", nil, 0, 0, [[1, table, key, nil, value], ...]].
func batchCommand(keys []string, value []byte) []byte {
	b := []byte{0x97, 0x03, 0xa0, 0xa0, 0xc0, 0x00, 0x00, 0xdc, byte(len(keys) >> 8), byte(len(keys))}
	packed := appendBinary(nil, value)
	for _, key := range keys {
		b = appendString(appendString(append(b, 0x95, 0x01), table), key)
		b = appendBinary(append(b, 0xc0), packed)
	}
	return b
}

// answer reads [1, slot, error, result]. A nil result and an outcome other than 0 are failures.
func (c *neumannConnection) answer() (slot int, failure string, err error) {
	reader := msgpackReader{c.in}
	answer, err := reader.value()
	if err != nil {
		return 0, "", err
	}
	parts, ok := answer.([]interface{})
	if !ok || len(parts) != 4 || parts[0] != int64(1) {
		return 0, "", fmt.Errorf("not an answer: %v", answer)
	}
	id, _ := parts[1].(int64)
	switch result := parts[3].(type) {
	case nil:
		failure = "no row"
	case []interface{}:
		if len(result) == 2 && result[1] != int64(0) {
			failure = fmt.Sprintf("outcome %v", result[1])
		}
	}
	if parts[2] != nil {
		failure = fmt.Sprint(parts[2])
	}
	return int(id), failure, nil
}
