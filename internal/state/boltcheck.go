package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/bits"
)

// The file format of bbolt, see its internal/common: a file is an array of
// pages; pages 0 and 1 are meta pages, of which the valid one with the higher
// transaction id is in force. Numbers are in the byte order of the machine.
const (
	boltMagic   = 0xED0CDAED
	boltVersion = 2

	pageHeaderSize   = 16 // id uint64, flags uint16, count uint16, overflow uint32
	elementSize      = 16 // of a branch or leaf page
	metaSize         = 64
	bucketHeaderSize = 16 // root uint64, sequence uint64

	branchPage   = 0x01
	leafPage     = 0x02
	freelistPage = 0x10

	bucketElement = 0x01

	noFreelist = ^uint64(0)

	minPageSize = 1 << 10
	maxPageSize = 1 << 24
)

// checkBolt reads a whole bolt file and returns an error unless every page that
// bbolt could come to is what it should be. bbolt itself trusts a file: one that
// was cut short makes its memory map fault, a loop among pages exhausts the
// stack, and a wrong length reads any memory, none of which recover catches
// wherever it may happen; its own Check runs on that same map. This one reads the
// file, not a map, and costs 0.1 s for 100 MB, which have to be read at start in
// any case.
func checkBolt(r io.ReaderAt, size int64) error {
	m, err := findMeta(r)
	if err != nil {
		return err
	}
	if m.pages > uint64(size)/m.pageSize {
		return fmt.Errorf("file is cut short: %d bytes of %d", size, m.pages*m.pageSize)
	}
	w := walk{r: r, meta: m, used: make([]bool, m.pages)}
	if err := w.claim(0, 2); err != nil {
		return err
	}
	todo := []subtree{{root: m.root, top: true}}
	for len(todo) > 0 {
		next := todo[len(todo)-1]
		below, err := w.tree(next)
		if err != nil {
			return fmt.Errorf("page %d: %w", next.root, err)
		}
		todo = append(todo[:len(todo)-1], below...)
	}
	if m.freelist == noFreelist {
		return nil
	}
	if err := w.freelist(); err != nil {
		return fmt.Errorf("page %d: %w", m.freelist, err)
	}
	return nil
}

// boltMeta is what a meta page says.
type boltMeta struct {
	pageSize uint64
	root     uint64 // page of the root bucket
	freelist uint64 // page of the list of free pages
	pages    uint64 // number of pages in use, free ones included
	txid     uint64
}

// findMeta returns the meta page that bbolt would choose.
func findMeta(r io.ReaderAt) (boltMeta, error) {
	first, firstErr := readMeta(r, 0)
	m, err := first, firstErr
	// The place of the second one depends on the page size, which it tells.
	for at := int64(minPageSize); err != nil && at <= maxPageSize; at <<= 1 {
		m, err = readMeta(r, at)
	}
	if err != nil {
		return boltMeta{}, firstErr
	}
	if m.pageSize < minPageSize || m.pageSize > maxPageSize || bits.OnesCount64(m.pageSize) != 1 {
		return boltMeta{}, fmt.Errorf("page size of %d bytes", m.pageSize)
	}
	second, secondErr := readMeta(r, int64(m.pageSize))
	switch {
	case firstErr != nil && secondErr != nil:
		return boltMeta{}, errors.New("both meta pages are damaged")
	case firstErr != nil:
		m = second
	case secondErr != nil:
		m = first
	case first.pageSize != second.pageSize:
		return boltMeta{}, fmt.Errorf("page sizes of %d and %d bytes", first.pageSize, second.pageSize)
	case second.txid > first.txid:
		m = second
	default:
		m = first
	}
	return m, nil
}

// readMeta reads the meta page that begins at offset at.
func readMeta(r io.ReaderAt, at int64) (boltMeta, error) {
	var page [pageHeaderSize + metaSize]byte
	if _, err := r.ReadAt(page[:], at); errors.Is(err, io.EOF) {
		return boltMeta{}, errors.New("file is too short")
	} else if err != nil {
		return boltMeta{}, err
	}
	b := page[pageHeaderSize:]
	if binary.NativeEndian.Uint32(b) != boltMagic {
		return boltMeta{}, errors.New("no bolt file")
	}
	if v := binary.NativeEndian.Uint32(b[4:]); v != boltVersion {
		return boltMeta{}, fmt.Errorf("bolt file of version %d, expected %d", v, boltVersion)
	}
	sum := fnv.New64a()
	_, _ = sum.Write(b[:56]) // never fails
	if binary.NativeEndian.Uint64(b[56:]) != sum.Sum64() {
		return boltMeta{}, errors.New("meta page has a wrong checksum")
	}
	return boltMeta{
		pageSize: uint64(binary.NativeEndian.Uint32(b[8:])),
		root:     binary.NativeEndian.Uint64(b[16:]),
		freelist: binary.NativeEndian.Uint64(b[32:]),
		pages:    binary.NativeEndian.Uint64(b[40:]),
		txid:     binary.NativeEndian.Uint64(b[48:]),
	}, nil
}

// walk is the state of one check.
type walk struct {
	r    io.ReaderAt
	meta boltMeta
	// used tells the pages that something refers to; nothing may do so twice, so
	// that there are no loops.
	used []bool
	buf  []byte
}

// subtree is a page and what its parent says of it: the keys are from low on and
// below high, nil for no bound.
type subtree struct {
	root      uint64
	top       bool // the root of a bucket, which alone may be empty
	low, high []byte
}

// claim marks n pages as used.
func (w *walk) claim(id, n uint64) error {
	if id >= w.meta.pages || n > w.meta.pages-id {
		return errors.New("beyond the end")
	}
	for i := id; i < id+n; i++ {
		if w.used[i] {
			return fmt.Errorf("second use of page %d", i)
		}
		w.used[i] = true
	}
	return nil
}

// page reads a page with its overflow. What it returns is valid until the next
// call.
func (w *walk) page(id uint64) (page, error) {
	var head [pageHeaderSize]byte
	if id >= w.meta.pages {
		return nil, errors.New("beyond the end")
	}
	at := int64(id * w.meta.pageSize)
	if _, err := w.r.ReadAt(head[:], at); err != nil {
		return nil, err
	}
	if got := binary.NativeEndian.Uint64(head[:]); got != id {
		return nil, fmt.Errorf("calls itself page %d", got)
	}
	n := uint64(binary.NativeEndian.Uint32(head[12:])) + 1
	if err := w.claim(id, n); err != nil {
		return nil, err
	}
	if size := n * w.meta.pageSize; uint64(len(w.buf)) < size {
		w.buf = make([]byte, size)
	}
	p := page(w.buf[:n*w.meta.pageSize])
	if _, err := w.r.ReadAt(p, at); err != nil {
		return nil, err
	}
	return p, nil
}

// tree checks one page of a tree and returns the subtrees below it.
func (w *walk) tree(t subtree) ([]subtree, error) {
	p, err := w.page(t.root)
	if err != nil {
		return nil, err
	}
	switch p.flags() {
	case branchPage:
		return p.branch(t)
	case leafPage:
		return p.leaf(t, true)
	}
	return nil, fmt.Errorf("kind %#x where a branch or leaf should be", p.flags())
}

// freelist checks that every page in the list of free pages is free.
func (w *walk) freelist() error {
	p, err := w.page(w.meta.freelist)
	if err != nil {
		return err
	}
	if p.flags() != freelistPage {
		return fmt.Errorf("kind %#x where the list of free pages should be", p.flags())
	}
	ids, n := p[pageHeaderSize:], uint64(p.count())
	if n == 0xFFFF { // too many for the header
		if len(ids) < 8 {
			return errors.New("list of free pages is cut short")
		}
		ids, n = ids[8:], binary.NativeEndian.Uint64(ids)
	}
	if n > uint64(len(ids))/8 {
		return fmt.Errorf("%d free pages do not fit", n)
	}
	for i := range n {
		if err := w.claim(binary.NativeEndian.Uint64(ids[8*i:]), 1); err != nil {
			return fmt.Errorf("free page: %w", err)
		}
	}
	return nil
}

// page is the bytes of a page, at least its header.
type page []byte

func (p page) flags() uint16 { return binary.NativeEndian.Uint16(p[8:]) }
func (p page) count() int    { return int(binary.NativeEndian.Uint16(p[10:])) }

// element returns the header of element i, and the bytes from it on, to which
// positions refer.
func (p page) element(i int) ([]byte, error) {
	at := pageHeaderSize + i*elementSize
	if at+elementSize > len(p) {
		return nil, fmt.Errorf("element %d does not fit", i)
	}
	return p[at:], nil
}

// branch checks a branch page.
func (p page) branch(t subtree) ([]subtree, error) {
	if p.count() == 0 {
		return nil, errors.New("branch without elements")
	}
	below := make([]subtree, p.count())
	for i := range below {
		e, err := p.element(i)
		if err != nil {
			return nil, err
		}
		pos, size := binary.NativeEndian.Uint32(e), binary.NativeEndian.Uint32(e[4:])
		key, err := part(e, uint64(pos), uint64(size))
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i, err)
		}
		if err := t.next(key, i > 0); err != nil {
			return nil, fmt.Errorf("key %d: %w", i, err)
		}
		key = bytes.Clone(key) // the buffer is for the next page soon
		t.low = key
		below[i] = subtree{root: binary.NativeEndian.Uint64(e[8:]), low: key, high: t.high}
		if i > 0 {
			below[i-1].high = key
		}
	}
	return below, nil
}

// leaf checks a leaf page and returns the buckets in it.
func (p page) leaf(t subtree, bucketsAllowed bool) ([]subtree, error) {
	if p.count() == 0 && !t.top {
		return nil, errors.New("leaf without elements")
	}
	var below []subtree
	for i := range p.count() {
		e, err := p.element(i)
		if err != nil {
			return nil, err
		}
		flags := binary.NativeEndian.Uint32(e)
		pos := uint64(binary.NativeEndian.Uint32(e[4:]))
		keySize := uint64(binary.NativeEndian.Uint32(e[8:]))
		key, err := part(e, pos, keySize)
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i, err)
		}
		if err := t.next(key, i > 0); err != nil {
			return nil, fmt.Errorf("key %d: %w", i, err)
		}
		t.low = key
		value, err := part(e, pos+keySize, uint64(binary.NativeEndian.Uint32(e[12:])))
		if err != nil {
			return nil, fmt.Errorf("value %d: %w", i, err)
		}
		switch {
		case flags == 0:
		case flags == bucketElement && bucketsAllowed:
			bucket, err := checkBucket(value)
			if err != nil {
				return nil, fmt.Errorf("bucket %d: %w", i, err)
			}
			if bucket != 0 {
				below = append(below, subtree{root: bucket, top: true})
			}
		default:
			return nil, fmt.Errorf("element %d is of kind %#x", i, flags)
		}
	}
	return below, nil
}

// checkBucket checks the value that stands for a bucket. It returns the bucket's
// page, or 0 for a small bucket that is held in the value itself.
func checkBucket(value []byte) (uint64, error) {
	if len(value) < bucketHeaderSize {
		return 0, errors.New("cut short")
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		return root, nil
	}
	inline := page(value[bucketHeaderSize:])
	if len(inline) < pageHeaderSize || inline.flags() != leafPage {
		return 0, errors.New("no leaf inside")
	}
	_, err := inline.leaf(subtree{top: true}, false)
	return 0, err
}

// next checks a key against the one before it, t.low, which it must be above, or
// may equal if that is only a bound.
func (t subtree) next(key []byte, above bool) error {
	if len(key) == 0 {
		return errors.New("empty")
	}
	if order := bytes.Compare(key, t.low); order < 0 || (order == 0 && above) {
		return errors.New("out of order")
	}
	if t.high != nil && bytes.Compare(key, t.high) >= 0 {
		return errors.New("out of order")
	}
	return nil
}

// part returns size bytes of b from pos on.
func part(b []byte, pos, size uint64) ([]byte, error) {
	if pos > uint64(len(b)) || size > uint64(len(b))-pos {
		return nil, errors.New("outside the page")
	}
	return b[pos : pos+size], nil
}
