package flolive

import (
	"context"
	"crypto/sha256"
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
	// maxFileSize bounds what is read as a list of subscribers: about three million.
	maxFileSize = 256 << 20
	// maxWarnings bounds the lines that are named, for a file may be all wrong.
	maxWarnings = 20
	// fileInterval is how often the file is looked at.
	fileInterval = time.Minute
	// settled is the age at which a file is taken for whole: a younger one may
	// still be in writing, and half a list would end the values of the other half.
	settled = 2 * time.Second
)

// columns of the file. Those that are optional may also be left out of the header.
const (
	columnType  = "type"
	columnValue = "value"
	columnName  = "name"
	columnIDs   = "balance_ids"
)

// subscriberFile is a file of subscribers, in CSV with a header line, as it was
// when last read.
type subscriberFile struct {
	path string

	info     os.FileInfo
	sum      [sha256.Size]byte
	ids      []identity
	names    names    // of ids, with the numbers of their lines
	warnings []string // about lines that were left out
}

// load reads the file. listed are subscribers that go before those of the file. It
// changes nothing if it fails.
func (f *subscriberFile) load(listed names) error {
	info, err := os.Stat(f.path)
	if err != nil {
		return fmt.Errorf("cannot read the subscribers: %w; create the file or correct the path", err)
	}
	if !info.Mode().IsRegular() {
		// Reading a pipe or a terminal would wait for ever.
		return fmt.Errorf("%s is no regular file; name a CSV file of subscribers", f.path)
	}
	opened, err := os.Open(f.path)
	if err != nil {
		return fmt.Errorf("cannot read the subscribers: %w; let the exporter's user read it", err)
	}
	defer func() { _ = opened.Close() }() // nothing was written
	// Of what is read, and not of what may have taken its place since.
	if info, err = opened.Stat(); err != nil {
		return fmt.Errorf("cannot read the subscribers: %w", err)
	}
	content, err := io.ReadAll(io.LimitReader(opened, maxFileSize+1))
	switch {
	case err != nil:
		return fmt.Errorf("cannot read the subscribers: %w", err)
	case len(content) > maxFileSize:
		return fmt.Errorf("%s is larger than %d MiB; split it over several accounts", f.path, maxFileSize>>20)
	}
	next := subscriberFile{path: f.path, info: info, sum: sha256.Sum256(content)}
	if err := next.parse(string(content), listed); err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	*f = next
	return nil
}

// unchanged reports that a file is the one that was read.
func (f *subscriberFile) unchanged(info os.FileInfo) bool {
	return os.SameFile(f.info, info) && f.info.Size() == info.Size() && f.info.ModTime().Equal(info.ModTime())
}

// parse reads CSV. A line is a record: a field cannot hold a line break, so that
// one missing quote costs its line and not the rest of the file.
func (f *subscriberFile) parse(text string, listed names) error {
	head, rest, _ := strings.Cut(strings.TrimPrefix(text, "\ufeff"), "\n")
	header, err := parseHeader(head)
	if err != nil {
		return err
	}
	lines := strings.Count(rest, "\n") + 1
	f.ids = make([]identity, 0, lines)
	f.names = make(names, 2*lines)
	bad := 0
	for number := 2; rest != ""; number++ {
		var line string
		line, rest, _ = strings.Cut(rest, "\n")
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		id, fault := header.identity(line)
		if fault == "" {
			fault = f.claim(id, number, listed)
		}
		if fault != "" {
			if bad++; bad <= maxWarnings {
				f.warnings = append(f.warnings, fmt.Sprintf("line %d is skipped: %s", number, fault))
			}
			continue
		}
		f.ids = append(f.ids, id)
	}
	if bad > maxWarnings {
		f.warnings = append(f.warnings, fmt.Sprintf("%d more lines are skipped", bad-maxWarnings))
	}
	f.ids = slices.Clip(f.ids)
	return nil
}

// claim takes the name and the identifier of a line, or says why it cannot.
func (f *subscriberFile) claim(id identity, line int, listed names) (fault string) {
	if part, i, held := listed.holder(id); held {
		return fmt.Sprintf("the %s is that of subscribers.list[%d] already", part, i)
	}
	if part, first, held := f.names.holder(id); held {
		return fmt.Sprintf("the %s is that of line %d already", part, first)
	}
	f.names.add(id, line)
	return ""
}

// header has the place of each column; -1 for one that is not there.
type header struct {
	width                  int
	kind, value, name, ids int
}

func parseHeader(line string) (header, error) {
	const expected = "the first line must be the header type,value,name,balance_ids"
	fields, err := splitCSV(strings.TrimSpace(line), nil)
	if err != nil {
		return header{}, errors.New(expected)
	}
	h := header{width: len(fields), kind: -1, value: -1, name: -1, ids: -1}
	places := map[string]*int{columnType: &h.kind, columnValue: &h.value, columnName: &h.name, columnIDs: &h.ids}
	for i, field := range fields {
		place := places[strings.ToLower(strings.TrimSpace(field))]
		switch {
		case place == nil:
			// The field is not shown: without a header it would be an identifier.
			return header{}, fmt.Errorf("%s; its column %d is none of these", expected, i+1)
		case *place >= 0:
			return header{}, fmt.Errorf("%s; its column %d is there twice", expected, i+1)
		}
		*place = i
	}
	if h.kind < 0 || h.value < 0 {
		return header{}, errors.New(expected)
	}
	return h, nil
}

// identity returns the subscriber of a line, or what is wrong with it.
func (h header) identity(line string) (id identity, wrong string) {
	var buffer [8]string
	fields, err := splitCSV(line, buffer[:0])
	switch {
	case err != nil:
		return identity{}, err.Error()
	case len(fields) > h.width:
		return identity{}, fmt.Sprintf("it has %d fields and the header has %d", len(fields), h.width)
	}
	field := func(place int) string {
		if place < 0 || place >= len(fields) {
			return ""
		}
		return strings.TrimSpace(fields[place])
	}
	id, fault := newIdentity(field(h.kind), field(h.value), field(h.name), strings.Fields(field(h.ids)))
	if fault != nil {
		return identity{}, fault.field + " " + fault.text
	}
	// One copy of what is kept: parts of the line would keep all of the file.
	kept := id.value + id.name + id.ids
	id.value, kept = kept[:len(id.value)], kept[len(id.value):]
	id.name, id.ids = kept[:len(id.name)], kept[len(id.name):]
	return id, ""
}

// splitCSV appends the fields of one line to into: separated by commas, and in
// quotes, which are doubled inside, where a field has a comma or a quote itself.
func splitCSV(line string, into []string) ([]string, error) {
	for {
		var field string
		if quoted, ok := strings.CutPrefix(line, `"`); ok {
			end := closingQuote(quoted)
			if end < 0 {
				return nil, errors.New("a quote is not closed on the line")
			}
			field, line = strings.ReplaceAll(quoted[:end], `""`, `"`), quoted[end+1:]
			if line != "" && line[0] != ',' {
				return nil, errors.New("something follows a closing quote")
			}
		} else {
			end := strings.IndexByte(line, ',')
			if end < 0 {
				end = len(line)
			}
			field, line = line[:end], line[end:]
			if strings.Contains(field, `"`) {
				return nil, errors.New("there is a quote in a field that does not begin with one")
			}
		}
		into = append(into, field)
		if line == "" {
			return into, nil
		}
		line = line[1:]
	}
}

// closingQuote returns the place of the first quote that is not doubled; -1 for
// none.
func closingQuote(s string) int {
	for i := 0; i < len(s); i++ {
		if s[i] != '"' {
			continue
		}
		if i+1 < len(s) && s[i+1] == '"' {
			i++
			continue
		}
		return i
	}
	return -1
}

// fileLister finds the subscribers of a file, which it reads again when it has
// changed. It sends nothing.
type fileLister struct {
	account   *account
	file      subscriberFile
	known     []providers.Source // until a Fetch brings others
	keepNames bool               // for a listing, which comes after the file
}

func newFileLister(a *account, file subscriberFile, keepNames bool) *fileLister {
	l := &fileLister{account: a, keepNames: keepNames}
	l.known = l.use(file)
	return l
}

// use makes file the one that was read, and returns its subscribers. Of the file
// only as much is kept as is needed to see that it changes.
func (l *fileLister) use(file subscriberFile) []providers.Source {
	roster := l.account.subscribers(file.ids)
	if l.keepNames {
		names := file.names
		l.account.taken.file.Store(&names)
	}
	file.ids, file.names, file.warnings = nil, nil, nil
	l.file = file
	return roster
}

// Key implements [providers.Source].
func (l *fileLister) Key() string { return "file" }

// Kind implements [providers.Source].
func (l *fileLister) Kind() providers.Kind { return providers.KindSubscribers }

// Interval implements [providers.Source].
func (l *fileLister) Interval() time.Duration { return fileInterval }

// Requests implements [providers.Source].
func (l *fileLister) Requests() int { return 0 }

// Known implements [providers.Lister].
func (l *fileLister) Known() []providers.Source { return l.known }

// Fetch looks at the file, and returns its subscribers if they have changed. While
// it cannot be read, the subscribers stay as they were; that is ReasonInternal,
// because no provider has refused anything.
func (l *fileLister) Fetch(context.Context) (providers.Reading, error) {
	info, err := os.Stat(l.file.path)
	if err != nil {
		return providers.Reading{}, l.failed(err)
	}
	if l.file.unchanged(info) {
		return providers.Reading{}, nil
	}
	// A time in the future is that of another clock, and says nothing.
	if age := time.Since(info.ModTime()); age >= 0 && age < settled {
		return providers.Reading{}, nil
	}
	next := l.file
	if err := next.load(l.account.taken.list); err != nil {
		return providers.Reading{}, l.failed(err)
	}
	if next.sum == l.file.sum {
		l.file.info = next.info
		return providers.Reading{}, nil
	}
	for _, warning := range next.warnings {
		l.account.warn("part of the subscriber file is not used", "file", next.path, "fault", warning)
	}
	l.known = nil
	return providers.Reading{Roster: l.use(next)}, nil
}

func (l *fileLister) failed(err error) error {
	return providers.Errorf(providers.ReasonInternal, "subscribers.file: %w; the subscribers that it had stay", err)
}
