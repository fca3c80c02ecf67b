package secret

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

const text = "p4ss/word+&\""

func write(t *testing.T, path, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
}

// age makes the file old enough for its time of change to be trusted.
func age(t *testing.T, path string, by time.Duration) {
	t.Helper()
	then := time.Now().Add(-by)
	require.NoError(t, os.Chtimes(path, then, then))
}

func get(t *testing.T, v *Value) string {
	t.Helper()
	got, err := v.Get()
	require.NoError(t, err)
	return got
}

func TestValueIsNeverShown(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	write(t, path, text)
	file := File(path)
	require.Equal(t, text, get(t, file))

	for name, v := range map[string]*Value{"inline": Inline(text), "file": file} {
		t.Run(name, func(t *testing.T) {
			stripped := reflect.ValueOf(v).Elem().Interface() // a copy, without methods
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%10s", "%!"} {
				require.Equal(t, "<secret>", strings.TrimSuffix(fmt.Sprintf(verb, v), "%!(NOVERB)"), verb)
				require.NotContains(t, fmt.Sprintf(verb, stripped), "p4ss", "a copy, %s", verb)
				require.NotContains(t, fmt.Sprintf(verb, struct{ v any }{stripped}), "p4ss", "a copy in an unexported field, %s", verb)
				require.NotContains(t, fmt.Sprintf(verb, struct{ v *Value }{v}), "p4ss", "in an unexported field, %s", verb)
				require.NotContains(t, fmt.Sprintf(verb, []*Value{v}), "p4ss", "in a slice, %s", verb)
			}
			require.Equal(t, "<secret>", v.String())

			asJSON, err := json.Marshal(map[string]any{"value": v, "copy": stripped})
			require.NoError(t, err)
			require.JSONEq(t, `{"value": "<secret>", "copy": {}}`, string(asJSON))

			asYAML, err := yaml.Marshal(map[string]any{"value": v})
			require.NoError(t, err)
			require.Equal(t, "value: <secret>\n", string(asYAML))

			var log strings.Builder
			slog.New(slog.NewTextHandler(&log, nil)).Info("look", "value", v)
			require.NotContains(t, log.String(), "p4ss")
			require.Contains(t, log.String(), "<secret>")
		})
	}
}

func TestNilValueIsNotSet(t *testing.T) {
	var v *Value
	require.Empty(t, get(t, v))
	require.Zero(t, v.Generation())
	require.Empty(t, v.Path())
	require.Equal(t, "<nil>", fmt.Sprintf("%v", v))
	require.Equal(t, "untouched", NewMask(v).String("untouched"))
}

func TestInlineIsKeptAsItIs(t *testing.T) {
	v := Inline(" " + text + "\n")
	require.Equal(t, " "+text+"\n", get(t, v))
	require.Equal(t, uint64(1), v.Generation())
	require.Equal(t, uint64(1), v.Generation())
	require.Empty(t, v.Path())
}

func TestFileIsReadAgainWhenItChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	v := File(path)
	require.Equal(t, path, v.Path())
	require.Zero(t, v.Generation(), "nothing read yet")

	write(t, path, "\t first \r\n")
	require.Equal(t, "first", get(t, v))
	require.Equal(t, uint64(1), v.Generation())

	write(t, path, "other\n")
	require.Equal(t, uint64(2), v.Generation(), "same size, perhaps the same tick")
	require.Equal(t, "other", get(t, v))

	age(t, path, time.Hour)
	require.Equal(t, uint64(2), v.Generation(), "only the time has changed")
	age(t, path, 2*time.Hour)
	require.Equal(t, "other", get(t, v))

	next := path + ".new"
	write(t, next, "third")
	age(t, next, 2*time.Hour)
	require.NoError(t, os.Rename(next, path))
	require.Equal(t, "third", get(t, v), "another file of the same size in its place")
	require.Equal(t, uint64(3), v.Generation())
}

func TestUnchangedFileIsNotReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	write(t, path, "first")
	age(t, path, time.Hour)
	info, err := os.Stat(path)
	require.NoError(t, err)
	v := File(path)
	require.Equal(t, "first", get(t, v))

	// Same size, same file, same time: only reading it could tell.
	write(t, path, "other")
	require.NoError(t, os.Chtimes(path, info.ModTime(), info.ModTime()))
	require.Equal(t, "first", get(t, v))
}

func TestLastGoodContentIsServedDuringRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	write(t, path, "first")
	v := File(path)
	require.Equal(t, "first", get(t, v))

	require.NoError(t, os.Remove(path))
	require.Equal(t, "first", get(t, v), "gone")
	write(t, path, " \n")
	require.Equal(t, "first", get(t, v), "empty")
	require.Equal(t, uint64(1), v.Generation())
	write(t, path, "second")
	require.Equal(t, "second", get(t, v))
	require.Equal(t, uint64(2), v.Generation())
}

func TestFileErrors(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "empty"), " \n\t")
	write(t, filepath.Join(dir, "large"), strings.Repeat("x", maxFileSize+1))
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	for name, message := range map[string]string{
		"missing": "cannot read the secret file: stat DIR/missing: no such file or directory; create it or correct the path",
		"empty":   "secret file DIR/empty is empty; write the secret into it",
		"large":   "secret file DIR/large is larger than 65536 bytes; name a file that holds only the secret",
		"pipe":    "secret file DIR/pipe is no regular file; name a file that holds the secret",
		".":       "secret file DIR is no regular file; name a file that holds the secret",
	} {
		t.Run(name, func(t *testing.T) {
			v := File(filepath.Join(dir, name))
			got, err := v.Get()
			require.EqualError(t, err, strings.ReplaceAll(message, "DIR", dir))
			require.Empty(t, got)
			require.Zero(t, v.Generation())
		})
	}
}

func TestValueIsSafeForConcurrentUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	write(t, path, "content 0")
	v := File(path)
	mask := NewMask(v)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for i := range 50 {
				_, err := v.Get()
				require.NoError(t, err)
				_ = v.Generation()
				mask.Add(fmt.Sprintf("token %d", i))
				_ = mask.String("a text with content 0")
			}
		})
	}
	for i := range 50 {
		write(t, path+".new", fmt.Sprintf("content %d", i))
		require.NoError(t, os.Rename(path+".new", path))
	}
	group.Wait()
	require.Equal(t, "content 49", get(t, v))
}
