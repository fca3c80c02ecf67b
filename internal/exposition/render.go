package exposition

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"iter"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/balance-exporter/balance_exporter/collector"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/providers"
)

// contentTypes select the encoder. No name here needs escaping, and checking them would
// take time.
var contentTypes = [formats]expfmt.Format{
	text:        expfmt.FmtText.WithEscapingScheme(model.NoEscaping),
	openMetrics: expfmt.FmtOpenMetrics_1_0_0.WithEscapingScheme(model.NoEscaping),
	protobuf:    expfmt.FmtProtoDelim.WithEscapingScheme(model.NoEscaping),
}

// render gathers what group contributes to a family and encodes it. The head is what
// the family needs once, the body can follow that of another group; both are empty if
// there are no series. What can be encoded is returned with the error.
func render(family string, group *snapshot.Group, c choice) (*form, error) {
	var head []byte
	var errs []error
	body := newBlock(c.encoding, func(yield func([]byte) bool) {
		for piece := range pieces(group) {
			h, b, err := renderPiece(family, piece, c.format)
			errs = append(errs, err)
			if len(b) > 0 {
				head = h
				if !yield(b) {
					return
				}
			}
		}
	})
	return &form{head: newBlock(c.encoding, slices.Values([][]byte{head})), body: body}, errors.Join(errs...)
}

func renderPiece(family string, group *snapshot.Group, f format) (head, body []byte, err error) {
	registry := prometheus.NewRegistry()
	if err := registry.Register(collector.NewFamily(family, group)); err != nil {
		return nil, nil, err
	}
	families, err := registry.Gather()
	if len(families) == 0 {
		return nil, nil, err
	}
	head, body, encodeErr := encode(families[0], f)
	return head, body, errors.Join(err, encodeErr)
}

// pieceSize is how many prices are gathered at a time: for a moment, a gathered series
// takes more than a kilobyte.
const pieceSize = 1024

// pieces returns group in pieces. The prices of a long list are sorted as a registry
// sorts them, so that the pieces follow each other in its order; equal ones stay in one
// piece, where the registry finds them.
func pieces(group *snapshot.Group) iter.Seq[*snapshot.Group] {
	if len(group.Snapshots) != 1 || len(group.Snapshots[0].Reading.Prices) <= pieceSize {
		return slices.Values([]*snapshot.Group{group})
	}
	return func(yield func(*snapshot.Group) bool) {
		prices := group.Snapshots[0].Reading.Prices
		order := make([]int, len(prices)) // smaller than a copy of the prices
		for i := range order {
			order[i] = i
		}
		by := func(i, j int) int { return compare(&prices[i], &prices[j]) }
		slices.SortFunc(order, by)
		for len(order) > 0 {
			n := min(pieceSize, len(order))
			for n < len(order) && by(order[n-1], order[n]) == 0 {
				n++
			}
			s, g := *group.Snapshots[0], *group
			s.Reading.Prices = make([]providers.Price, n)
			for i, at := range order[:n] {
				s.Reading.Prices[i] = prices[at]
			}
			g.Snapshots, order = []*snapshot.Snapshot{&s}, order[n:]
			if !yield(&g) {
				return
			}
		}
	}
}

// compare orders the prices of an account by the values of their labels, in the order
// of the labels' names.
func compare(a, b *providers.Price) int {
	return cmp.Or(
		cmp.Compare(a.Country, b.Country),
		cmp.Compare(a.Currency, b.Currency),
		cmp.Compare(a.Direction, b.Direction),
		cmp.Compare(a.MCC, b.MCC),
		cmp.Compare(a.MNC, b.MNC),
		cmp.Compare(a.NumberType, b.NumberType),
		cmp.Compare(a.Operator, b.Operator),
		cmp.Compare(a.SubAccount, b.SubAccount),
	)
}

// encode encodes a family, which it may change.
func encode(family *dto.MetricFamily, f format) (head, body []byte, err error) {
	if f == protobuf {
		return encodeProtobuf(family)
	}
	var out bytes.Buffer
	if err := expfmt.NewEncoder(&out, contentTypes[f]).Encode(family); err != nil {
		return nil, nil, err
	}
	n := commentLines(out.Bytes())
	return out.Bytes()[:n], out.Bytes()[n:], nil
}

// commentLines returns the length of the lines at the start of p that start with #. No
// sample starts with it, and line ends in a help text are escaped.
func commentLines(p []byte) int {
	n := 0
	for n < len(p) && p[n] == '#' {
		end := bytes.IndexByte(p[n:], '\n')
		if end < 0 {
			return len(p)
		}
		n += end + 1
	}
	return n
}

// encodeProtobuf encodes all fields but the metrics as the head. Concatenated messages
// of one type are one message, whose repeated fields are joined.
func encodeProtobuf(family *dto.MetricFamily) (head, body []byte, err error) {
	metrics := &dto.MetricFamily{Metric: family.Metric}
	family.Metric = nil
	if head, err = encodeMessage(family); err != nil {
		return nil, nil, err
	}
	if body, err = encodeMessage(metrics); err != nil {
		return nil, nil, err
	}
	return head, body, nil
}

// encodeMessage returns m without the length that starts a delimited message.
func encodeMessage(m *dto.MetricFamily) ([]byte, error) {
	var out bytes.Buffer
	if err := expfmt.NewEncoder(&out, contentTypes[protobuf]).Encode(m); err != nil {
		return nil, err
	}
	_, n := binary.Uvarint(out.Bytes())
	return out.Bytes()[n:], nil
}
