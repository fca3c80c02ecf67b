package exposition

import (
	"bytes"
	"encoding/binary"
	"maps"
	"net/http"
	"strconv"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

// answer is the body of an answer in pieces, most of which are cached.
type answer struct {
	choice
	pieces [][]byte
	size   int // of the pieces
	plain  int // of the pieces before encoding
	sum    sum // of the pieces before encoding

	fresh   bytes.Buffer // follows the pieces, not encoded
	encoder expfmt.Encoder
}

func newAnswer(c choice) *answer {
	a := &answer{choice: c, sum: emptySum}
	a.encoder = expfmt.NewEncoder(&a.fresh, c.contentType)
	if c.encoding == gzipped {
		a.add(gzipHeader)
	}
	return a
}

func (a *answer) add(piece []byte) {
	a.pieces = append(a.pieces, piece)
	a.size += len(piece)
}

// addOwn adds a family that is not cached. One that cannot be encoded is left out.
func (a *answer) addOwn(f *dto.MetricFamily) error {
	before := a.fresh.Len()
	err := a.encoder.Encode(f)
	if err != nil {
		a.fresh.Truncate(before)
	}
	return err
}

func (a *answer) addCached(c contribution) {
	if a.format == protobuf {
		a.fresh.Write(binary.AppendUvarint(nil, uint64(c.size)))
	}
	a.flush()
	a.addBlock(c.forms[0].head)
	for _, f := range c.forms {
		a.addBlock(f.body)
	}
}

func (a *answer) addBlock(b block) {
	a.add(b.data[a.encoding])
	a.plain += b.size
	a.sum = a.sum.followedBy(b.sum)
}

// worthDeflating is the size from which deflating makes fresh bytes smaller.
const worthDeflating = 128

// flush makes the fresh bytes a piece.
func (a *answer) flush() {
	if a.fresh.Len() == 0 {
		return
	}
	plain := bytes.Clone(a.fresh.Bytes())
	a.fresh.Reset()
	a.plain += len(plain)
	switch {
	case a.encoding == identity:
		a.add(plain)
		return
	case len(plain) < worthDeflating:
		a.add(stored(plain))
	default:
		a.add(quick.deflate(plain))
	}
	a.sum = a.sum.followedBy(sumOf(plain))
}

// finish adds the end of the answer.
func (a *answer) finish() error {
	var err error
	if closer, ok := a.encoder.(expfmt.Closer); ok {
		err = closer.Close() // # EOF in OpenMetrics
	}
	a.flush()
	if a.encoding == gzipped {
		a.add(lastBlock)
		a.add(gzipTrailer(a.sum.crc, a.plain))
	}
	return err
}

// write sends the answer.
func (a *answer) write(w http.ResponseWriter, r *http.Request) error {
	maps.Copy(w.Header(), a.header)
	w.Header().Set("Content-Length", strconv.Itoa(a.size))
	if r.Method == http.MethodHead {
		w.WriteHeader(http.StatusOK)
		return nil
	}
	for _, piece := range a.pieces {
		if _, err := w.Write(piece); err != nil {
			return err
		}
	}
	return nil
}
