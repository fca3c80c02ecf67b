package flolive

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Columns of the file; the last two are optional.
var columns = []string{"type", "value", "name", "balance_ids"}

var errHeader = errors.New("the first line must be the header " + strings.Join(columns, ","))

// csvLine reads CSV line by line. Each line is a record: a field cannot contain a line
// break, so that a missing quote costs its line and not the rest of the file.
type csvLine struct {
	header []int // which of columns each field is
	reader *csv.Reader
	text   bytes.Reader // what reader reads
	fields []string     // of a line without quotes
}

// readHeader reads the first line.
func (l *csvLine) readHeader(text []byte) error {
	if bytes.HasPrefix(text, []byte("\xff\xfe")) || bytes.HasPrefix(text, []byte("\xfe\xff")) || bytes.IndexByte(text, 0) >= 0 {
		return errors.New("the file is UTF-16 or has NUL bytes; save the file as UTF-8")
	}
	l.reader = csv.NewReader(&l.text)
	l.reader.FieldsPerRecord, l.reader.ReuseRecord = -1, true
	if err := checkForm(text); err != nil {
		return err
	}
	fields, err := l.split(text)
	if err != nil {
		return errHeader
	}
	for i, field := range fields {
		column := slices.Index(columns, strings.ToLower(strings.TrimSpace(field)))
		if column < 0 || slices.Contains(l.header, column) {
			// The field is not shown: without a header it would be an identifier.
			return fmt.Errorf("%w; its column %d is unknown or repeated", errHeader, i+1)
		}
		l.header = append(l.header, column)
	}
	if !slices.Contains(l.header, 0) || !slices.Contains(l.header, 1) {
		return errHeader
	}
	return nil
}

// read returns the subscriber of a line after the header.
func (l *csvLine) read(text []byte) (identity, error) {
	if err := checkForm(text); err != nil {
		return identity{}, err
	}
	fields, err := l.split(text)
	switch {
	case err != nil:
		return identity{}, err
	case len(fields) > len(l.header):
		return identity{}, fmt.Errorf("it has %d fields and the header has %d", len(fields), len(l.header))
	}
	var values [4]string // by column
	for i, field := range fields {
		values[l.header[i]] = strings.TrimSpace(field)
	}
	id, fault := newIdentity(values[0], values[1], values[2], strings.Fields(values[3]))
	if fault != nil {
		return identity{}, errors.New(fault.field + " " + fault.text)
	}
	return id, nil
}

// checkForm returns an error for a line in the form that spreadsheets save files in
// unless they are asked for another. A line that can be used has a comma.
func checkForm(text []byte) error {
	separator := ""
	switch {
	case !utf8.Valid(text):
		return errors.New("not UTF-8; save the file as UTF-8")
	case bytes.IndexByte(text, ',') >= 0:
	case bytes.IndexByte(text, ';') >= 0:
		separator = "semicolons"
	case bytes.IndexByte(text, '\t') >= 0:
		separator = "tabs"
	}
	if separator != "" {
		return fmt.Errorf("the fields are separated by %s; separate them by commas", separator)
	}
	return nil
}

// split returns the fields of a line until the next call. An error is without the
// number of the line, which is always 1.
func (l *csvLine) split(text []byte) ([]string, error) {
	if len(text) > 0 && bytes.IndexByte(text, '"') < 0 {
		// What csv.Reader would return, in a third of the time.
		l.fields = slices.AppendSeq(l.fields[:0], strings.SplitSeq(string(text), ","))
		return l.fields, nil
	}
	l.text.Reset(text)
	fields, err := l.reader.Read()
	if err != nil {
		return nil, cmp.Or(errors.Unwrap(err), err)
	}
	return fields, nil
}
