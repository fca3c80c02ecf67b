package state

import (
	"encoding/binary"
	"math"
	"time"

	"github.com/google/uuid"
)

// fields writes the fields of a record to data, or reads them from it. Each method
// does both, so that one list of fields is enough. Writing changes no field; what
// cannot be read is left as it is.
type fields struct {
	data    []byte // what is written, or what is left to read
	reading bool
	short   bool // data has ended too early, or is malformed
}

// take returns the next n bytes that are read; zeros if there are fewer.
func (f *fields) take(n int) []byte {
	if n > len(f.data) {
		f.short, f.data = true, nil
		return make([]byte, n)
	}
	taken := f.data[:n]
	f.data = f.data[n:]
	return taken
}

// length is a number that is not negative. What is read is at most the number of bytes
// left.
func (f *fields) length(n int) int {
	if !f.reading {
		f.data = binary.AppendUvarint(f.data, uint64(n)) //nolint:gosec // not negative
		return n
	}
	v, size := binary.Uvarint(f.data)
	if size <= 0 || v > uint64(len(f.data)) {
		f.short, f.data = true, nil
		return 0
	}
	f.data = f.data[size:]
	return int(v) //nolint:gosec // bounded
}

func integer[T ~int | ~int64](f *fields, n *T) {
	if !f.reading {
		f.data = binary.AppendVarint(f.data, int64(*n))
		return
	}
	v, size := binary.Varint(f.data)
	if size <= 0 {
		f.short, f.data = true, nil
		return
	}
	*n, f.data = T(v), f.data[size:]
}

func (f *fields) bool(b *bool) {
	if !f.reading {
		flag := byte(0)
		if *b {
			flag = 1
		}
		f.data = append(f.data, flag)
		return
	}
	*b = f.take(1)[0] == 1
}

// time is an instant to the nanosecond, as the difference to another one.
func (f *fields) time(t *time.Time, base time.Time) {
	seconds, nanoseconds := t.Unix()-base.Unix(), int64(t.Nanosecond()-base.Nanosecond())
	integer(f, &seconds)
	integer(f, &nanoseconds)
	if f.reading {
		*t = time.Unix(base.Unix()+seconds, int64(base.Nanosecond())+nanoseconds).UTC()
	}
}

// The forms of a float64: a decimal with as many digits after the point, which is
// what providers send and short, or its bits.
const bits = 10

var powers = [bits]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9}

// float is exact for every bit: a decimal is used only if it gives the same number.
func (f *fields) float(v *float64) {
	if !f.reading {
		for digits, power := range powers {
			rounded := math.Round(*v * power)
			if !(math.Abs(rounded) < 1<<53) {
				break
			}
			whole := int64(rounded) // not -0
			if math.Float64bits(float64(whole)/power) == math.Float64bits(*v) {
				f.data = append(f.data, byte(digits))
				integer(f, &whole)
				return
			}
		}
		f.data = binary.BigEndian.AppendUint64(append(f.data, bits), math.Float64bits(*v))
		return
	}
	digits := f.take(1)[0]
	if digits >= bits {
		*v = math.Float64frombits(binary.BigEndian.Uint64(f.take(8)))
		return
	}
	var whole int64
	integer(f, &whole)
	*v = float64(whole) / powers[digits]
}

// text is any bytes with their length.
func text[T ~string | ~[]byte](f *fields, s *T) {
	n := f.length(len(*s))
	switch {
	case !f.reading:
		f.data = append(f.data, *s...)
	case n > 0:
		*s = T(string(f.take(n))) // a copy
	}
}

// uuid is a text that takes less if it is a UUID in its usual form.
func (f *fields) uuid(s *string) {
	isUUID := false
	var id uuid.UUID
	if !f.reading {
		parsed, err := uuid.Parse(*s)
		id, isUUID = parsed, err == nil && parsed.String() == *s
	}
	f.bool(&isUUID)
	switch {
	case !isUUID:
		text(f, s)
	case f.reading:
		*s = uuid.UUID(f.take(len(id))).String()
	default:
		f.data = append(f.data, id[:]...)
	}
}

// list is the number of the elements and each of them.
func list[T any](f *fields, l *[]T, element func(*T)) {
	n := f.length(len(*l))
	if f.reading && n > 0 {
		*l = make([]T, 0, min(n, 1<<16)) // a longer one may be damaged
	}
	for i := range n {
		if f.reading {
			*l = append(*l, *new(T))
		}
		element(&(*l)[i])
		if f.short {
			return
		}
	}
}

// optional is a pointer that may be nil.
func optional[T any](f *fields, p **T, value func(*T)) {
	ok := *p != nil
	f.bool(&ok)
	if ok {
		if f.reading {
			*p = new(T)
		}
		value(*p)
	}
}
