// Package secret holds secrets so that they can be used and never shown: a
// [Value] prints as <secret>, and a [Mask] replaces secrets in other texts.
package secret

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// hidden is shown instead of a secret.
	hidden = "<secret>"
	// maxFileSize is in bytes. It makes a wrong path, such as that of a log file,
	// an error instead of a header of gigabytes.
	maxFileSize = 64 << 10
	// maxRead bounds the wait for a file on a mount that hangs.
	maxRead = 5 * time.Second
	// maxTexts is how many contents of a file stay hidden, and how many texts of
	// [Mask.Add], which change with every login.
	maxTexts = 64
)

// unprintable makes what embeds it print as <secret> with every verb of fmt and in
// JSON, YAML and text.
type unprintable struct{}

func (unprintable) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

func (unprintable) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// Value is a secret given inline or as a file. It is never printed. A nil *Value is
// a secret that is not set. It is safe for concurrent use.
type Value struct {
	unprintable
	path string
	read func(path string) (string, error) // nil for an inline secret
	// current is nil before the first good content. fmt calls no method of an
	// unexported field, but does not follow this pointer either.
	current atomic.Pointer[content]

	mu      sync.Mutex // not held during I/O; locked before an index
	indexes []*index   // that hide the secret
	reading *reading   // in progress; nil for none
}

// reading is one read of the file.
type reading struct {
	start time.Time
	done  chan struct{} // closed when err is set
	err   error
}

type content struct {
	texts      []formsOf // the newest last, each once, at most maxTexts
	generation uint64
}

type formsOf struct {
	text     string
	patterns []pattern
}

// Inline returns the secret text, trimmed by [Trim].
func Inline(text string) *Value {
	v := &Value{}
	v.set(Trim(text))
	return v
}

// File returns the secret in the regular file at path, at most 64 KiB, trimmed by
// [Trim]. It does not read the file yet.
func File(path string) *Value { return &Value{path: path, read: readFile} }

// Trim returns text without surrounding white space and byte order marks, which
// editors and shells add to secrets.
func Trim(text string) string {
	return strings.TrimFunc(text, func(r rune) bool { return unicode.IsSpace(r) || r == '\ufeff' })
}

// Get reads the file as [Value.Refresh] does and returns the secret; "" for a nil
// Value. While the file is missing, empty or faulty, as during a rotation, Get returns
// the last good content. Only without one it returns an error, which names the path
// and never shows the content.
func (v *Value) Get() (string, error) {
	err := v.Refresh()
	if c := v.content(); c.generation > 0 {
		return c.texts[len(c.texts)-1].text, nil
	}
	return "", err
}

// Refresh reads the file, for at most 5 seconds, and returns why it cannot be used,
// even if Get still returns the last good content. Concurrent calls share one read;
// while a read takes longer than that, they return an error at once.
func (v *Value) Refresh() error {
	if v == nil || v.read == nil {
		return nil
	}
	v.mu.Lock()
	r := v.reading
	if r == nil {
		r = &reading{start: time.Now(), done: make(chan struct{})}
		v.reading = r
		go func() {
			text, err := v.read(v.path)
			if r.err = err; err == nil {
				v.set(text)
			}
			v.mu.Lock()
			v.reading = nil
			v.mu.Unlock()
			close(r.done)
		}()
	}
	v.mu.Unlock()
	ctx, cancel := context.WithDeadline(context.Background(), r.start.Add(maxRead))
	defer cancel()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return fmt.Errorf("reading the secret file %s takes longer than %s; check the disk or mount that it is on", v.path, maxRead)
	}
}

// Generation returns how many contents were read so far: 0 before the first, and
// always 1 for an inline secret. It does no I/O and takes no lock.
func (v *Value) Generation() uint64 { return v.content().generation }

func (v *Value) content() content {
	if v != nil {
		if c := v.current.Load(); c != nil {
			return *c
		}
	}
	return content{}
}

// set makes text the content. The indexes hide it before a caller can get it.
func (v *Value) set(text string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	old := v.content()
	n := len(old.texts)
	if n > 0 && old.texts[n-1].text == text {
		return
	}
	texts := append(slices.Clone(old.texts), formsOf{text, forms(text)})
	drop := slices.IndexFunc(texts, func(f formsOf) bool { return f.text == text })
	if drop == n && n == maxTexts {
		drop = 0
	}
	for _, x := range v.indexes {
		x.count(texts[n].patterns, 1)
		if drop < n {
			x.count(texts[drop].patterns, -1)
		}
	}
	if drop < n {
		texts = slices.Delete(texts, drop, drop+1)
	}
	v.current.Store(&content{texts, old.generation + 1})
}

// hideIn makes x hide the secret, now and later, if n is 1, and no longer if n is -1.
func (v *Value) hideIn(x *index, n int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.indexes = slices.DeleteFunc(v.indexes, func(known *index) bool { return known == x })
	if n > 0 {
		v.indexes = append(v.indexes, x)
	}
	for _, f := range v.content().texts {
		x.count(f.patterns, n)
	}
}

func readFile(path string) (string, error) {
	// Without O_NONBLOCK, opening a named pipe waits for a writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", fmt.Errorf("cannot read the secret file: %w; correct the path or the permissions", err)
	}
	defer func() { _ = f.Close() }() // nothing was written
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return "", fmt.Errorf("secret file %s is not a regular file; name a file that contains the secret", path)
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	text := Trim(string(raw))
	switch {
	case err != nil:
		return "", fmt.Errorf("cannot read the secret file: %w", err)
	case len(raw) > maxFileSize:
		return "", fmt.Errorf("secret file %s is larger than %d bytes; name a file that contains only the secret", path, maxFileSize)
	case text == "":
		return "", fmt.Errorf("secret file %s is empty; write the secret into it", path)
	case !utf8.ValidString(text): // PowerShell writes UTF-16
		return "", fmt.Errorf("secret file %s is not UTF-8; save it in this encoding", path)
	}
	return text, nil
}
