package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

// The part of MessagePack that requests and answers need.

func appendString(b []byte, text string) []byte {
	if len(text) < 32 {
		b = append(b, 0xa0|byte(len(text)))
	} else {
		b = append(b, 0xda, byte(len(text)>>8), byte(len(text)))
	}
	return append(b, text...)
}

func appendBinary(b []byte, data []byte) []byte {
	switch {
	case len(data) < 1<<8:
		b = append(b, 0xc4, byte(len(data)))
	case len(data) < 1<<16:
		b = append(b, 0xc5, byte(len(data)>>8), byte(len(data)))
	default:
		b = append(b, 0xc6, 0, 0, 0, 0)
		binary.BigEndian.PutUint32(b[len(b)-4:], uint32(len(data)))
	}
	return append(b, data...)
}

type msgpackReader struct{ in *bufio.Reader }

// value reads one value: nil, bool, int64, float64, string (binaries too), []interface{} or a map.
func (r msgpackReader) value() (interface{}, error) {
	tag, err := r.in.ReadByte()
	if err != nil {
		return nil, err
	}
	switch {
	case tag < 0x80:
		return int64(tag), nil
	case tag >= 0xe0:
		return int64(int8(tag)), nil
	case tag < 0x90:
		return r.mapping(uint64(tag & 0x0f))
	case tag < 0xa0:
		return r.array(uint64(tag & 0x0f))
	case tag < 0xc0:
		return r.text(uint64(tag & 0x1f))
	}
	switch tag {
	case 0xc0:
		return nil, nil
	case 0xc2, 0xc3:
		return tag == 0xc3, nil
	case 0xcc, 0xcd, 0xce, 0xcf:
		n, err := r.unsigned(1 << (tag - 0xcc))
		return int64(n), err
	case 0xd0, 0xd1, 0xd2, 0xd3:
		width := 1 << (tag - 0xd0)
		n, err := r.unsigned(width)
		shift := uint(64 - 8*width)
		return int64(n<<shift) >> shift, err
	case 0xcb:
		n, err := r.unsigned(8)
		return math.Float64frombits(n), err
	}
	for _, family := range []struct {
		first, last byte
		width       int
		read        func(uint64) (interface{}, error)
	}{
		{0xc4, 0xc6, 1, r.text}, {0xd9, 0xdb, 1, r.text}, {0xdc, 0xdd, 2, r.array}, {0xde, 0xdf, 2, r.mapping},
	} {
		if tag >= family.first && tag <= family.last {
			n, err := r.unsigned(family.width << (tag - family.first))
			if err != nil {
				return nil, err
			}
			return family.read(n)
		}
	}
	return nil, fmt.Errorf("MessagePack tag %#x", tag)
}

func (r msgpackReader) unsigned(width int) (n uint64, err error) {
	for ; width > 0 && err == nil; width-- {
		var b byte
		b, err = r.in.ReadByte()
		n = n<<8 | uint64(b)
	}
	return n, err
}

func (r msgpackReader) text(length uint64) (interface{}, error) {
	data := make([]byte, length)
	_, err := io.ReadFull(r.in, data)
	return string(data), err
}

func (r msgpackReader) array(count uint64) (interface{}, error) {
	items := make([]interface{}, count)
	for i := range items {
		var err error
		if items[i], err = r.value(); err != nil {
			return nil, err
		}
	}
	return items, nil
}

func (r msgpackReader) mapping(count uint64) (interface{}, error) {
	items := make(map[interface{}]interface{}, count)
	for ; count > 0; count-- {
		key, err := r.value()
		if err != nil {
			return nil, err
		}
		if items[key], err = r.value(); err != nil {
			return nil, err
		}
	}
	return items, nil
}
