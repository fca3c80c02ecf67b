// Package secret holds secrets so that they can be used and never shown: a
// [Value] masks itself wherever it is printed, and a [Mask] finds secrets in
// texts that others have written.
package secret

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	// hidden stands wherever a secret would have been.
	hidden = "<secret>"
	// maxFileSize bounds what is read as a secret, so that a wrong path such as
	// a log file is an error and not a header of gigabytes.
	maxFileSize = 64 << 10
	// keptContents bounds how many earlier contents of a file are remembered
	// for masking.
	keptContents = 64
	// settled is the age at which a file's time of change is trusted. A younger
	// file is read again: with coarse time stamps it may have been written twice
	// in one tick.
	settled = 2 * time.Second
)

// Value is a secret given inline or as a file. It shows itself as <secret> in
// every verb of fmt and in JSON, YAML and text. A nil *Value is a secret that is
// not set. It is safe for concurrent use.
type Value struct {
	path string // "" for inline

	mu sync.Mutex
	// contents are the good contents, newest last; none until the first. They
	// are pointers because fmt follows no pointer to a string: a Value that is
	// printed past its methods (a copy, an unexported field) shows addresses.
	contents   []*string
	generation uint64
	seen       os.FileInfo // the file as it was when last read; nil: read it
}

// Inline returns the secret text, as it is.
func Inline(text string) *Value {
	return &Value{contents: []*string{&text}, generation: 1}
}

// File returns the secret in the file at path, without surrounding white space.
// It reads nothing yet.
func File(path string) *Value {
	return &Value{path: path}
}

// Get returns the secret; "" for a nil Value. A file is read again when it has
// changed. While it cannot be read or is empty, as happens when it is being
// replaced, the last good content is returned; it is an error if there was none.
// The error names the path and never the content.
func (v *Value) Get() (string, error) {
	if v == nil {
		return "", nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	err := v.refresh()
	if n := len(v.contents); n > 0 {
		return *v.contents[n-1], nil
	}
	return "", err
}

// Generation looks at the file and returns a number that has increased if the
// content differs from what it was. It is 0 while there never was a content,
// and constant for an inline secret.
func (v *Value) Generation() uint64 {
	if v == nil {
		return 0
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	_ = v.refresh() // the generation stays when the file cannot be read
	return v.generation
}

// Path returns the path of the file, "" for an inline secret.
func (v *Value) Path() string {
	if v == nil {
		return ""
	}
	return v.path
}

// history looks at the file and returns the generation with the contents up to
// now, the newest last. The slice must not be changed.
func (v *Value) history() (uint64, []*string) {
	if v == nil {
		return 0, nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	_ = v.refresh() // what cannot be read need not be hidden
	return v.generation, v.contents
}

// refresh reads the file if it has changed.
func (v *Value) refresh() error {
	if v.path == "" {
		return nil
	}
	info, err := os.Stat(v.path)
	if err != nil {
		v.seen = nil
		return fmt.Errorf("cannot read the secret file: %w; create it or correct the path", err)
	}
	if v.seen != nil && unchanged(v.seen, info) {
		return nil
	}
	v.seen = nil
	text, err := read(v.path, info)
	if err != nil {
		return err
	}
	if time.Since(info.ModTime()) > settled {
		v.seen = info
	}
	if n := len(v.contents); n > 0 && *v.contents[n-1] == text {
		return nil
	}
	// A new slice each time: history hands out the old one.
	kept := v.contents[max(0, len(v.contents)+1-keptContents):]
	v.contents = append(append(make([]*string, 0, len(kept)+1), kept...), &text)
	v.generation++
	return nil
}

func unchanged(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

func read(path string, info os.FileInfo) (string, error) {
	if !info.Mode().IsRegular() {
		// Reading a pipe or a terminal would wait for ever.
		return "", fmt.Errorf("secret file %s is no regular file; name a file that holds the secret", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("cannot read the secret file: %w; let the exporter's user read it", err)
	}
	defer func() { _ = f.Close() }() // nothing was written
	content, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return "", fmt.Errorf("cannot read the secret file: %w", err)
	}
	if len(content) > maxFileSize {
		return "", fmt.Errorf("secret file %s is larger than %d bytes; name a file that holds only the secret", path, maxFileSize)
	}
	text := strings.TrimSpace(string(content))
	if text == "" {
		return "", fmt.Errorf("secret file %s is empty; write the secret into it", path)
	}
	return text, nil
}

// String returns <secret>.
func (v *Value) String() string {
	if v == nil {
		return "<nil>"
	}
	return hidden
}

// Format writes <secret> for every verb and flag.
func (v *Value) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, v.String()) }

// MarshalText returns <secret>. JSON and YAML use it too.
func (v *Value) MarshalText() ([]byte, error) { return []byte(v.String()), nil }
