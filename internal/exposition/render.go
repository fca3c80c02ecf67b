package exposition

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/balance-exporter/balance_exporter/collector"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
)

// contentTypes are what is told expfmt. Nothing needs escaping here, and looking
// for what does would take time.
var contentTypes = [formats]expfmt.Format{
	text:        expfmt.FmtText.WithEscapingScheme(model.NoEscaping),
	openMetrics: expfmt.FmtOpenMetrics_1_0_0.WithEscapingScheme(model.NoEscaping),
	protobuf:    expfmt.FmtProtoDelim.WithEscapingScheme(model.NoEscaping),
}

// render gathers what group contributes to a family and writes it in a format. The
// head is what the family needs once, the body what can follow that of another
// group; both are empty if there is nothing. What can be shown is returned with
// the error.
func render(family string, group *snapshot.Group, f format) (head, body []byte, err error) {
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

// encode writes a family, which it may change, in a format.
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

// commentLines returns the length of the lines at the beginning of p that start
// with #. No sample starts with it, and a help text has its line ends escaped.
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

// encodeProtobuf writes all fields but the metrics as the head. Messages of one
// type that follow each other are one message, whose repeated fields are joined.
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

// encodeMessage returns m without the length that a delimited message starts with.
func encodeMessage(m *dto.MetricFamily) ([]byte, error) {
	var out bytes.Buffer
	if err := expfmt.NewEncoder(&out, contentTypes[protobuf]).Encode(m); err != nil {
		return nil, err
	}
	_, n := binary.Uvarint(out.Bytes())
	return out.Bytes()[n:], nil
}
