package flolive

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/balance-exporter/balance_exporter/providers"
)

const (
	// maxFileSize bounds a file of subscribers, in bytes: about three million lines.
	maxFileSize = 256 << 20
	// maxLine bounds a line of it, in bytes.
	maxLine = 64 << 10
	// maxWarnings bounds how many faulty lines are reported one by one.
	maxWarnings = 20
	// fileInterval is how often the file is examined.
	fileInterval = time.Minute
	// settled is the age at which a file counts as whole. A younger one may still
	// be written, and half a list would end the values of the other half.
	settled = 2 * time.Second
)

// Columns of the file; the last two are optional.
var columns = []string{"type", "value", "name", "balance_ids"}

// subscriberFile is a file of subscribers, in CSV with a header line, as it was
// when last read.
type subscriberFile struct {
	path string

	info     os.FileInfo
	sum      string // SHA-256 of the content
	ids      []identity
	names    names    // of ids, with the numbers of their lines
	warnings []string // about lines that are skipped
}

// load reads the file. Subscribers in listed have precedence over those of the file.
// It changes nothing if it fails.
func (f *subscriberFile) load(listed names) error {
	info, err := os.Stat(f.path)
	switch {
	case err != nil:
		return fmt.Errorf("cannot read the subscribers: %w; create the file or correct the path", err)
	case !info.Mode().IsRegular(): // reading a pipe or a device may never end
		return fmt.Errorf("%s is not a regular file; name a CSV file of subscribers", f.path)
	}
	opened, err := os.Open(f.path)
	if err != nil {
		return fmt.Errorf("cannot read the subscribers: %w; let the exporter's user read the file", err)
	}
	defer func() { _ = opened.Close() }() // nothing was written
	next := subscriberFile{path: f.path}
	// The file may have been replaced since.
	if next.info, err = opened.Stat(); err != nil {
		return fmt.Errorf("cannot read the subscribers: %w", err)
	}
	if next.info.Size() > maxFileSize {
		return fmt.Errorf("%s is larger than %d MiB; split it over several accounts", f.path, maxFileSize>>20)
	}
	hash := sha256.New()
	if err := next.parse(io.TeeReader(io.LimitReader(opened, maxFileSize), hash), listed); err != nil {
		return err
	}
	next.sum = string(hash.Sum(nil))
	*f = next
	return nil
}

// unchanged reports that info is of the file that was read.
func (f *subscriberFile) unchanged(info os.FileInfo) bool {
	return os.SameFile(f.info, info) && f.info.Size() == info.Size() && f.info.ModTime().Equal(info.ModTime())
}

// parse reads CSV. Each line is a record: a field cannot contain a line break, so
// that a missing quote costs its line and not the rest of the file.
func (f *subscriberFile) parse(r io.Reader, listed names) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	var line strings.Reader
	fields := csv.NewReader(&line)
	fields.FieldsPerRecord, fields.ReuseRecord = -1, true
	f.names = names{}
	var header []int
	number, skipped := 0, 0
	for lines.Scan() {
		number++
		text := strings.TrimSpace(strings.TrimPrefix(lines.Text(), "\ufeff"))
		if text == "" && number > 1 {
			continue
		}
		line.Reset(text)
		record, err := fields.Read()
		if number == 1 {
			if header, err = parseHeader(record, err); err != nil {
				return fmt.Errorf("%s:1: %w", f.path, err)
			}
			continue
		}
		if err != nil {
			err = errors.Unwrap(err) // without the number of the line, which is always 1
		} else if err = f.add(record, header, number, listed); err == nil {
			continue
		}
		if skipped++; skipped <= maxWarnings {
			f.warnings = append(f.warnings, fmt.Sprintf("%s:%d: the line is skipped: %s", f.path, number, err))
		}
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return fmt.Errorf("%s:%d: the line is longer than %d KiB", f.path, number+1, maxLine>>10)
	case err != nil:
		return fmt.Errorf("cannot read the subscribers: %w", err)
	case number == 0:
		return fmt.Errorf("%s:1: %w", f.path, errHeader)
	}
	if skipped > maxWarnings {
		f.warnings = append(f.warnings, fmt.Sprintf("%s: %d more lines are skipped", f.path, skipped-maxWarnings))
	}
	f.ids = slices.Clip(f.ids)
	return nil
}

// add adds the subscriber of a line.
func (f *subscriberFile) add(record []string, header []int, line int, listed names) error {
	if len(record) > len(header) {
		return fmt.Errorf("it has %d fields and the header has %d", len(record), len(header))
	}
	var values [4]string // by column
	for i, field := range record {
		values[header[i]] = strings.TrimSpace(field)
	}
	id, fault := newIdentity(values[0], values[1], values[2], strings.Fields(values[3]))
	if fault != nil {
		return errors.New(fault.field + " " + fault.text)
	}
	if part, i, ok := listed.taken(id); ok {
		return fmt.Errorf("subscribers.list[%d] has the same %s", i, part)
	}
	if part, first, ok := f.names.taken(id); ok {
		return fmt.Errorf("line %d has the same %s", first, part)
	}
	f.names.add(id, line)
	f.ids = append(f.ids, id)
	return nil
}

var errHeader = errors.New("the first line must be the header " + strings.Join(columns, ","))

// parseHeader returns which of columns each field of the first line is. err is that
// of the CSV reader.
func parseHeader(fields []string, err error) ([]int, error) {
	if err != nil {
		return nil, errHeader
	}
	var header []int
	for i, field := range fields {
		column := slices.Index(columns, strings.ToLower(strings.TrimSpace(field)))
		if column < 0 || slices.Contains(header, column) {
			// The field is not shown: without a header it would be an identifier.
			return nil, fmt.Errorf("%w; its column %d is unknown or repeated", errHeader, i+1)
		}
		header = append(header, column)
	}
	if !slices.Contains(header, 0) || !slices.Contains(header, 1) {
		return nil, errHeader
	}
	return header, nil
}

// fileLister finds the subscribers of a file, and reads it again when it changes.
// It sends nothing.
type fileLister struct {
	account   *account
	file      subscriberFile
	known     providers.Roster // until a Fetch finds others
	size      int              // of the roster
	keepNames bool             // for a listing, over which the file has precedence
}

func newFileLister(a *account, file subscriberFile, keepNames bool) *fileLister {
	l := &fileLister{account: a, keepNames: keepNames}
	l.known = l.use(file)
	return l
}

// use makes file the current one and returns its subscribers. It drops all of the
// file that is not needed to notice a change.
func (l *fileLister) use(file subscriberFile) providers.Roster {
	roster := l.account.subscribers(file.ids)
	if l.keepNames {
		names := file.names
		l.account.configured.file.Store(&names)
	}
	file.ids, file.names, file.warnings = nil, nil, nil
	l.file, l.size = file, roster.Len()
	return roster
}

// Describe implements [providers.Source].
func (l *fileLister) Describe() providers.Description {
	return providers.Description{
		Key: "file", Kind: providers.KindSubscribers, Interval: fileInterval, Lists: true, Known: l.known,
	}
}

// Fetch returns the subscribers of the file if they have changed. While the file
// cannot be read, the subscribers stay; that is ReasonInternal, because it is not a
// fault of the provider.
func (l *fileLister) Fetch(context.Context) (providers.Reading, error) {
	info, err := os.Stat(l.file.path)
	if err != nil {
		return providers.Reading{}, failed(err)
	}
	// A time in the future is that of another clock and says nothing.
	age := time.Since(info.ModTime())
	if l.file.unchanged(info) || age >= 0 && age < settled {
		return providers.Reading{}, nil
	}
	next := l.file
	if err := next.load(l.account.configured.list); err != nil {
		return providers.Reading{}, failed(err)
	}
	if next.sum == l.file.sum {
		l.file.info = next.info
		return providers.Reading{}, nil
	}
	for _, warning := range next.warnings {
		l.account.warn("part of the subscriber file is not used", "fault", warning)
	}
	l.account.warnIfShrunk("file", l.size, len(next.ids))
	l.known = nil
	return providers.Reading{Roster: l.use(next)}, nil
}

func failed(err error) error {
	return providers.Errorf(providers.ReasonInternal, "subscribers.file: %w; its earlier subscribers stay", err)
}
