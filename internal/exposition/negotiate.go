package exposition

import (
	"net/http"

	"github.com/prometheus/common/expfmt"
)

// format is one of the formats that are cached.
type format int

const (
	text format = iota
	openMetrics
	protobuf
	formats // their number
)

// String returns the value of the label format of balance_exporter_exposition_bytes.
func (f format) String() string { return [formats]string{"text", "openmetrics", "protobuf"}[f] }

// formatOf returns the format whose bytes a content type has. Its version of
// OpenMetrics and its escaping do not matter: 0.0.1 and 1.0.0 are written alike,
// and all names here are valid without escaping.
func formatOf(contentType expfmt.Format) (_ format, ok bool) {
	switch contentType.FormatType() {
	case expfmt.TypeTextPlain:
		return text, true
	case expfmt.TypeOpenMetrics:
		return openMetrics, contentType.Version() != expfmt.OpenMetricsVersion_2_0_0
	case expfmt.TypeProtoDelim:
		return protobuf, true
	default:
		return 0, false
	}
}

// encoding is one of the content encodings that are cached.
type encoding int

const (
	identity encoding = iota
	gzipped
	encodings // their number
)

// String returns the value of the label encoding of
// balance_exporter_exposition_bytes.
func (e encoding) String() string { return [encodings]string{"identity", "gzip"}[e] }

// choice is the result of the content negotiation.
type choice struct {
	header      http.Header // of the answer
	contentType expfmt.Format
	format      format
	encoding    encoding
}

// negotiate returns false if promhttp has to answer the request. The negotiation is
// promhttp's own, whose code is internal: it serves an empty exposition, and the header
// that it sets is the result.
func (e *Exposition) negotiate(r *http.Request) (choice, bool) {
	if r.URL != nil && r.URL.Query().Has("name[]") {
		return choice{}, false
	}
	c := choice{header: http.Header{}}
	e.probe.ServeHTTP(headerOnly(c.header), r)
	c.contentType = expfmt.Format(c.header.Get("Content-Type"))
	switch c.header.Get("Content-Encoding") {
	case "":
		c.encoding = identity
	case "gzip":
		c.encoding = gzipped
	default:
		return choice{}, false
	}
	var ok bool
	c.format, ok = formatOf(c.contentType)
	return c, ok
}
