package flolive

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/portions"
	"github.com/balance-exporter/balance_exporter/providers"
)

const (
	// maxFileSize bounds a file of subscribers, in bytes: 25 million lines with a name
	// and a UUID, which take 1 GiB of memory.
	maxFileSize = 2 << 30
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

// fileSeed is that of the hashes of files.
var fileSeed = maphash.MakeSeed()

// subscriberFile is a file of subscribers, in CSV with a header line, as it was
// when last read.
type subscriberFile struct {
	path      string
	keepNames bool // for a listing, over which the file has precedence

	info     os.FileInfo
	sum      uint64   // a hash of the content
	names    *names   // with the numbers of their lines
	warnings []string // about lines that are skipped
}

// load reads the file. Subscribers in listed have precedence over those of the file.
// It changes nothing if it fails.
func (f *subscriberFile) load(ctx context.Context, listed *names) error {
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
	next := subscriberFile{path: f.path, keepNames: f.keepNames}
	// The file may have been replaced since.
	if next.info, err = opened.Stat(); err != nil {
		return fmt.Errorf("cannot read the subscribers: %w", err)
	}
	if next.info.Size() > maxFileSize {
		return fmt.Errorf("%s is larger than %d GiB; split it over several accounts", f.path, maxFileSize>>30)
	}
	var hash maphash.Hash
	hash.SetSeed(fileSeed)
	if err := next.parse(ctx, io.TeeReader(io.LimitReader(opened, maxFileSize), &hash), next.info.Size(), listed); err != nil {
		return err
	}
	next.sum = hash.Sum64()
	if !next.keepNames {
		next.names = &names{subscribers: next.names.subscribers}
	}
	*f = next
	return nil
}

// unchanged reports that info is of the file that was read.
func (f *subscriberFile) unchanged(info os.FileInfo) bool {
	return os.SameFile(f.info, info) && f.info.Size() == info.Size() && f.info.ModTime().Equal(info.ModTime())
}

// parse reads the lines of the file, whose size is in bytes. A line that cannot be used
// is skipped, unless there is no other.
func (f *subscriberFile) parse(ctx context.Context, r io.Reader, size int64, listed *names) error {
	f.names = newNames()
	var unread error // the rest of the file
	read := func(yield func(line) bool) { unread = f.read(ctx, r, yield) }
	var record []byte
	var first error // about a line
	skipped := 0
	for lines := range portions.Ahead(read, linesPerPortion) {
		f.names.expected = int(float64(f.names.subscribers.Len()+len(lines)) * float64(size) / float64(lines[len(lines)-1].end))
		for _, l := range lines {
			err := l.err
			if err == nil {
				record = l.id.record(record[:0])
				err = f.add(record, l.number, listed)
			}
			if err == nil {
				continue
			}
			if skipped++; skipped == 1 {
				first = fmt.Errorf("line %d: %w", l.number, err)
			}
			if skipped <= maxWarnings {
				f.warnings = append(f.warnings, fmt.Sprintf("%s:%d: the line is skipped: %s", f.path, l.number, err))
			}
		}
	}
	switch {
	case unread != nil:
		return unread
	case skipped > 0 && f.names.subscribers.Len() == 0:
		return fmt.Errorf("%s: no line can be used; %w", f.path, first)
	}
	if skipped > maxWarnings {
		f.warnings = append(f.warnings, fmt.Sprintf("%s: %d more lines are skipped", f.path, skipped-maxWarnings))
	}
	return nil
}

// line is a line of the file after its header, and who is in it.
type line struct {
	number int
	end    int64 // bytes of the file up to there
	id     identity
	err    error // why it cannot be used
}

// linesPerPortion is enough that passing them on costs nothing beside reading them.
const linesPerPortion = 1000

// read yields the lines of the file. It returns an error if they are not all.
func (f *subscriberFile) read(ctx context.Context, r io.Reader, yield func(line) bool) error {
	text := bufio.NewScanner(r)
	text.Buffer(make([]byte, 0, maxLine), maxLine)
	var in csvLine
	number, end := 0, int64(0)
	for ctx.Err() == nil && text.Scan() {
		number++
		end += int64(len(text.Bytes())) + 1
		trimmed := bytes.TrimSpace(bytes.TrimPrefix(text.Bytes(), []byte("\ufeff")))
		if number == 1 {
			if err := in.readHeader(trimmed); err != nil {
				return fmt.Errorf("%s:1: %w", f.path, err)
			}
			continue
		}
		if len(trimmed) == 0 {
			continue
		}
		id, err := in.read(trimmed)
		if !yield(line{number, end, id, err}) {
			return nil
		}
	}
	switch err := cmp.Or(ctx.Err(), text.Err()); {
	case errors.Is(err, bufio.ErrTooLong):
		return fmt.Errorf("%s:%d: the line is longer than %d KiB", f.path, number+1, maxLine>>10)
	case err != nil:
		return fmt.Errorf("cannot read the subscribers: %w", err)
	case number == 0:
		return fmt.Errorf("%s:1: %w", f.path, errHeader)
	}
	return nil
}

// add adds the subscriber of a line.
func (f *subscriberFile) add(record []byte, line int, listed *names) error {
	if part, i, ok := listed.taken(record); ok {
		return fmt.Errorf("subscribers.list[%d] has the same %s", i, part)
	}
	if part, first, ok := f.names.taken(record); ok {
		return fmt.Errorf("line %d has the same %s", first, part)
	}
	f.names.add(record, line)
	return nil
}

// fileLister finds the subscribers of a file, and reads it again when it changes.
// It sends nothing.
type fileLister struct {
	account *account
	file    subscriberFile
	known   providers.Roster // until a Fetch finds others
	size    int              // of the roster
}

func newFileLister(a *account, file subscriberFile) *fileLister {
	l := &fileLister{account: a}
	l.known = l.use(file)
	return l
}

// use makes file the current one and returns its subscribers. It drops all of the
// file that is not needed to notice a change.
func (l *fileLister) use(file subscriberFile) providers.Roster {
	r := roster{l.account, file.names.subscribers}
	if file.keepNames {
		l.account.configured.file.Store(file.names)
	}
	file.names, file.warnings = nil, nil
	l.file, l.size = file, r.Len()
	return r
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
func (l *fileLister) Fetch(ctx context.Context) (providers.Reading, error) {
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
	if err := next.load(ctx, l.account.configured.list); err != nil {
		return providers.Reading{}, failed(err)
	}
	if next.sum == l.file.sum {
		l.file.info = next.info
		return providers.Reading{}, nil
	}
	for _, warning := range next.warnings {
		l.account.warn("part of the subscriber file is not used", "fault", warning)
	}
	l.account.warnIfShrunk("file", l.size, next.names.subscribers.Len())
	l.known = nil
	return providers.Reading{Roster: l.use(next)}, nil
}

func failed(err error) error {
	return providers.Errorf(providers.ReasonInternal, "subscribers.file: %w; its earlier subscribers stay", err)
}
