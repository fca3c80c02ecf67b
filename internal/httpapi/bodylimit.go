package httpapi

import (
	"errors"
	"fmt"
	"io"
)

// Bounds of an answer's body, after decompression.
const (
	MaxBody      = 1 << 20
	MaxLargeBody = 64 << 20
)

var errTooLarge = errors.New("the answer is too large")

// limitedReader reads at most left bytes, and fails where [io.LimitReader] would
// pretend that the body ended.
type limitedReader struct {
	r    io.Reader
	left int64
	max  int64
}

func limitBody(r io.Reader, bound int64) *limitedReader {
	return &limitedReader{r: r, left: bound, max: bound}
}

func (l *limitedReader) Read(p []byte) (int, error) {
	if l.left <= 0 {
		var one [1]byte
		if n, err := io.ReadFull(l.r, one[:]); n == 0 {
			return 0, err
		}
		return 0, fmt.Errorf("%w: more than %d bytes", errTooLarge, l.max)
	}
	if int64(len(p)) > l.left {
		p = p[:l.left]
	}
	n, err := l.r.Read(p)
	l.left -= int64(n)
	return n, err
}
