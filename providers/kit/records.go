package kit

import "slices"

// recordsPerChunk is how many records share an allocation.
const recordsPerChunk = 1024

// Records is a list of byte strings for fleets of millions: it takes about four bytes
// for a record besides its content, and the garbage collector has a few pointers for
// a thousand records to follow. The zero value is empty. It may be read by several
// goroutines at once unless Append is called.
type Records struct {
	full []records // of recordsPerChunk each
	last records   // has room to grow
}

// records are a few records, one after the other.
type records struct {
	data []byte
	ends []uint32 // of each record in data
}

// Len returns the number of records.
func (r *Records) Len() int { return len(r.full)*recordsPerChunk + len(r.last.ends) }

// At returns record i, 0 to Len-1. It must not be changed.
func (r *Records) At(i int) []byte {
	in := &r.last
	if n := i / recordsPerChunk; n < len(r.full) {
		in = &r.full[n]
	}
	i %= recordsPerChunk
	start := uint32(0)
	if i > 0 {
		start = in.ends[i-1]
	}
	return in.data[start:in.ends[i]:in.ends[i]]
}

// Append adds a copy of record, which has less than 1 MiB.
func (r *Records) Append(record []byte) {
	if len(r.last.ends) == recordsPerChunk {
		r.full = append(r.full, records{slices.Clone(r.last.data), slices.Clone(r.last.ends)})
		r.last.data, r.last.ends = r.last.data[:0], r.last.ends[:0]
	}
	r.last.data = append(r.last.data, record...)
	r.last.ends = append(r.last.ends, uint32(len(r.last.data))) //nolint:gosec // at most 1 GiB
}
