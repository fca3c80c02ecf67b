package exposition

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"hash/crc32"
	"io"
	"math/bits"
	"sync"
)

// A gzip member is a header, a deflate stream, and the checksum and size of the
// plain bytes (RFC 1952). Blocks of a deflate stream that end on a byte boundary and
// refer to nothing before them can be concatenated, which is how cached blocks form an
// answer. More than one member would be simpler and valid, but curl fails on the
// second, and wget drops it.

// gzipHeader has no name, no time and no flags.
var gzipHeader = []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff}

// lastBlock is an empty deflate block that is marked as the last.
var lastBlock = []byte{1, 0, 0, 0xff, 0xff}

func gzipTrailer(sum uint32, size int) []byte {
	var b []byte
	b = binary.LittleEndian.AppendUint32(b, sum)
	return binary.LittleEndian.AppendUint32(b, uint32(size)) // modulo 2³², by the RFC
}

// compressors holds a pool of *flate.Writer for each level in use: one takes up to
// a megabyte.
type compressors struct {
	level int
	pool  sync.Pool
}

var (
	// thorough is for bytes that are cached; it is the level of promhttp.
	thorough = compressors{level: flate.DefaultCompression}
	// quick is for bytes that are sent once.
	quick = compressors{level: flate.BestSpeed}
)

// deflate returns p as deflate blocks that end on a byte boundary.
func (c *compressors) deflate(p []byte) []byte {
	return c.deflated(func(w io.Writer) { _, _ = w.Write(p) })
}

// deflated is deflate for what write writes; writing does not fail.
func (c *compressors) deflated(write func(io.Writer)) []byte {
	var out bytes.Buffer
	w, _ := c.pool.Get().(*flate.Writer)
	if w == nil {
		w, _ = flate.NewWriter(nil, c.level) // fails for unknown levels only
	}
	w.Reset(&out)
	write(w)
	_ = w.Flush() // a bytes.Buffer does not fail
	c.pool.Put(w)
	return out.Bytes()
}

// stored returns p, of less than 64 KiB, as a deflate block that is not compressed.
func stored(p []byte) []byte {
	n := uint16(len(p))
	b := make([]byte, 1, 5+len(p))
	b = binary.LittleEndian.AppendUint16(b, n)
	b = binary.LittleEndian.AppendUint16(b, ^n)
	return append(b, p...)
}

// inflate returns the size bytes whose deflate blocks are p, which must come from
// deflate.
func inflate(p []byte, size int) []byte {
	out := make([]byte, size)
	if _, err := io.ReadFull(flate.NewReader(bytes.NewReader(p)), out); err != nil {
		panic("exposition: cached bytes are damaged: " + err.Error())
	}
	return out
}

// sum is the checksum of some bytes, with the factor that appends it to another.
type sum struct {
	crc   uint32
	shift uint32 // x to the number of bits, modulo the polynomial of the checksum
}

func sumOf(p []byte) sum { return sum{crc: crc32.ChecksumIEEE(p), shift: power(len(p))} }

// followedBy returns the checksum of the bytes of s and then those of t.
func (s sum) followedBy(t sum) sum {
	return sum{crc: times(s.crc, t.shift) ^ t.crc, shift: times(s.shift, t.shift)}
}

// one is the polynomial 1: the checksum's bits are in reverse order.
const one = 1 << 31

// emptySum is the checksum of no bytes.
var emptySum = sum{shift: one}

// times multiplies polynomials over GF(2), modulo that of the checksum.
func times(a, b uint32) uint32 {
	var product uint32
	for ; a != 0; a <<= 1 {
		if a&one != 0 {
			product ^= b
		}
		b = b>>1 ^ crc32.IEEE&-(b&1)
	}
	return product
}

// power returns x to the number of bits in size bytes.
func power(size int) uint32 {
	p, square := uint32(one), uint32(one>>8)
	for i := range bits.Len(uint(size)) {
		if size>>i&1 != 0 {
			p = times(p, square)
		}
		square = times(square, square)
	}
	return p
}
