package secret

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

const text = "p4ss/word+&\""

func write(t *testing.T, path, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
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
			NewMask(v).Add("p4ss token")
			stripped := reflect.ValueOf(v).Elem().Interface()
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%10s", "%!"} {
				require.Equal(t, "<secret>", strings.TrimSuffix(fmt.Sprintf(verb, v), "%!(NOVERB)"), verb)
				require.Equal(t, "<secret>", strings.TrimSuffix(fmt.Sprintf(verb, stripped), "%!(NOVERB)"), "a copy, %s", verb)
				require.NotContains(t, fmt.Sprintf(verb, struct{ v any }{stripped}), "p4ss", "a copy in an unexported field, %s", verb)
				require.NotContains(t, fmt.Sprintf(verb, struct{ v *Value }{v}), "p4ss", "in an unexported field, %s", verb)
				require.NotContains(t, fmt.Sprintf(verb, []*Value{v}), "p4ss", "in a slice, %s", verb)
			}

			asJSON, err := json.Marshal(map[string]any{"value": v, "copy": stripped})
			require.NoError(t, err)
			require.JSONEq(t, `{"value": "<secret>", "copy": "<secret>"}`, string(asJSON))

			asYAML, err := yaml.Marshal(map[string]any{"value": v, "copy": stripped})
			require.NoError(t, err)
			require.Equal(t, "copy: <secret>\nvalue: <secret>\n", string(asYAML))

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
	require.NoError(t, v.Refresh())
	require.Zero(t, v.Generation())
	require.Equal(t, "<nil>", fmt.Sprintf("%v", v))
	require.Equal(t, "untouched", NewMask(v).String("untouched"))
}

func TestSecretIsTrimmed(t *testing.T) {
	for name, written := range map[string]string{
		"as it is":                 text,
		"line feed":                text + "\n",
		"white space":              " \t" + text + "\r\n\u00a0",
		"byte order mark":          "\ufeff" + text,
		"both, in any order":       "\ufeff \ufeff" + text + " \ufeff\n",
		"white space inside stays": "\na b\ufeffc\n",
	} {
		t.Run(name, func(t *testing.T) {
			want := text
			if strings.HasPrefix(name, "white space inside") {
				want = "a b\ufeffc"
			}
			path := filepath.Join(t.TempDir(), "key")
			write(t, path, written)
			require.Equal(t, want, get(t, File(path)))
			inline := Inline(written)
			require.Equal(t, want, get(t, inline))
			require.Equal(t, uint64(1), inline.Generation())
			require.NoError(t, inline.Refresh())
		})
	}
}

func TestFileIsReadAgainWhenItChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	v := File(path)
	write(t, path, "first")
	require.Zero(t, v.Generation(), "nothing read yet")
	require.Equal(t, "first", get(t, v))
	require.Equal(t, uint64(1), v.Generation())
	info, err := os.Stat(path)
	require.NoError(t, err)

	write(t, path, "other")
	require.NoError(t, os.Chtimes(path, info.ModTime(), info.ModTime()))
	require.Equal(t, uint64(1), v.Generation(), "Generation does not look at the file")
	require.NoError(t, v.Refresh())
	require.Equal(t, uint64(2), v.Generation(), "same file, size and time")
	require.Equal(t, "other", get(t, v))

	require.NoError(t, os.Chtimes(path, time.Time{}, info.ModTime().Add(time.Hour)))
	require.Equal(t, "other", get(t, v))
	require.Equal(t, uint64(2), v.Generation(), "only the time has changed")

	write(t, path+".new", "third")
	require.NoError(t, os.Rename(path+".new", path))
	require.Equal(t, "third", get(t, v), "another file in its place")
	require.Equal(t, uint64(3), v.Generation())

	write(t, path, "first")
	require.Equal(t, "first", get(t, v))
	require.Equal(t, uint64(4), v.Generation(), "an earlier content is new again")
}

func TestLastGoodContentIsServedDuringRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	write(t, path, "first")
	v := File(path)
	require.Equal(t, "first", get(t, v))
	for name, fault := range map[string]func(){
		"missing":   func() {},
		"empty":     func() { write(t, path, " \n") },
		"large":     func() { write(t, path, strings.Repeat("x", maxFileSize+1)) },
		"directory": func() { require.NoError(t, os.Mkdir(path, 0o700)) },
		"named pipe": func() {
			require.NoError(t, syscall.Mkfifo(path, 0o600))
		},
		"named pipe with a writer": func() {
			require.NoError(t, syscall.Mkfifo(path, 0o600))
			pipe, err := os.OpenFile(path, os.O_RDWR, 0)
			require.NoError(t, err)
			t.Cleanup(func() { _ = pipe.Close() })
			_, err = pipe.WriteString("from a pipe")
			require.NoError(t, err)
		},
		"device": func() { require.NoError(t, os.Symlink("/dev/zero", path)) },
	} {
		require.NoError(t, os.RemoveAll(path))
		fault()
		require.Error(t, v.Refresh(), name)
		require.Equal(t, "first", get(t, v), name)
		require.Equal(t, uint64(1), v.Generation(), name)
	}
	require.NoError(t, os.RemoveAll(path))
	write(t, path, "second")
	require.Equal(t, "second", get(t, v))
	require.Equal(t, uint64(2), v.Generation())
}

func TestFileErrors(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "empty"), "\ufeff \n\t")
	write(t, filepath.Join(dir, "UTF-16"), "\xff\xfek\x00e\x00y\x001\x00\n\x00")
	write(t, filepath.Join(dir, "large"), strings.Repeat("x", maxFileSize+1))
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	require.NoError(t, os.Symlink("/dev/zero", filepath.Join(dir, "device")))
	listener, err := net.Listen("unix", filepath.Join(dir, "socket"))
	require.NoError(t, err)
	defer func() { _ = listener.Close() }()
	for name, message := range map[string]string{
		"missing": "cannot read the secret file: open DIR/missing: no such file or directory; correct the path or the permissions",
		"empty":   "secret file DIR/empty is empty; write the secret into it",
		"large":   "secret file DIR/large is larger than 65536 bytes; name a file that contains only the secret",
		"UTF-16":  "secret file DIR/UTF-16 is not UTF-8; save it in this encoding",
		"pipe":    "secret file DIR/pipe is not a regular file; name a file that contains the secret",
		"device":  "secret file DIR/device is not a regular file; name a file that contains the secret",
		"socket":  "cannot read the secret file: open DIR/socket: no such device or address; correct the path or the permissions",
		".":       "secret file DIR is not a regular file; name a file that contains the secret",
	} {
		t.Run(name, func(t *testing.T) {
			v := File(filepath.Join(dir, name))
			got, err := v.Get()
			require.EqualError(t, err, strings.ReplaceAll(message, "DIR", dir))
			require.Empty(t, got)
			require.EqualError(t, v.Refresh(), err.Error())
			require.Zero(t, v.Generation())
		})
	}
}

func TestUnreadableFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(path, []byte(text), 0))
	if f, err := os.Open(path); err == nil {
		_ = f.Close()
		t.Skip("root may read every file")
	}
	_, err := File(path).Get()
	require.EqualError(t, err, "cannot read the secret file: open "+path+": permission denied; correct the path or the permissions")
}

func TestLargestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	write(t, path, strings.Repeat("x", maxFileSize))
	require.Len(t, get(t, File(path)), maxFileSize)
}

// TestSlowFileDelaysItsValueAlone has a file on a mount that hangs.
func TestSlowFileDelaysItsValueAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const slow = "reading the secret file /mnt/key takes longer than 5s; check the disk or mount that it is on"
		var reads atomic.Int64
		hang := make(chan string)
		v := &Value{path: "/mnt/key", read: func(string) (string, error) { reads.Add(1); return <-hang, nil }}
		mask := NewMask(v, Inline("inline secret"))
		masks := NewMask()
		masks.Replace(mask)
		start := time.Now()

		_, err := v.Get()
		require.EqualError(t, err, slow)
		require.Equal(t, 5*time.Second, time.Since(start))

		var group sync.WaitGroup
		for range 10 {
			group.Go(func() {
				_, err := v.Get()
				require.EqualError(t, err, slow)
			})
		}
		group.Wait()
		require.Equal(t, int64(1), reads.Load(), "one read at a time")

		path := filepath.Join(t.TempDir(), "key")
		write(t, path, text)
		require.Equal(t, text, get(t, File(path)))
		require.Zero(t, v.Generation())
		mask.Add("a token")
		require.Equal(t, "<secret>, <secret>", mask.String("inline secret, a token"))
		require.Equal(t, "<secret>, <secret>", masks.String("inline secret, a token"))
		require.Equal(t, "<secret>", NewMask(v, Inline("other")).String("other"))
		require.Equal(t, 5*time.Second, time.Since(start), "nothing else has waited")

		hang <- "first"
		synctest.Wait()
		require.Equal(t, uint64(1), v.Generation(), "a late read counts")
		go func() { hang <- "second" }()
		require.Equal(t, "second", get(t, v))
		require.Equal(t, int64(2), reads.Load())
		require.Equal(t, "first", get(t, &Value{path: "/mnt/key", read: func(string) (string, error) { return "first", nil }}))

		start = time.Now()
		require.Equal(t, "second", get(t, v), "the last good content")
		require.Equal(t, 5*time.Second, time.Since(start))
		require.Equal(t, "second", get(t, v))
		require.Equal(t, 5*time.Second, time.Since(start), "only the first waits")
		hang <- "third"
		synctest.Wait()
		require.Equal(t, uint64(3), v.Generation())
		require.Equal(t, "<secret>, <secret>", masks.String("second, third"))
	})
}

// TestContentIsHiddenBeforeItIsReturned logs a new content as soon as possible.
func TestContentIsHiddenBeforeItIsReturned(t *testing.T) {
	for range 50 {
		var reads atomic.Int64
		v := &Value{path: "key", read: func(string) (string, error) { return fmt.Sprintf("content %d.", reads.Add(1)), nil }}
		masks := NewMask()
		masks.Replace(NewMask(v))
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				for range maxTexts / 4 {
					require.Equal(t, "<secret>", masks.String(get(t, v)))
				}
			})
		}
		group.Wait()
	}
}

// TestMaskingReadsNoFile logs a scrape of 1 000 accounts.
func TestMaskingReadsNoFile(t *testing.T) {
	var reads atomic.Int64
	var all []*Mask
	var values []*Value
	for i := range 1000 {
		v := &Value{path: "key", read: func(string) (string, error) {
			reads.Add(1)
			return fmt.Sprintf("secret of account %04d", i), nil
		}}
		values, all = append(values, v), append(all, NewMask(v))
	}
	masks := NewMask()
	masks.Replace(all...)
	require.Zero(t, reads.Load(), "nothing is read before it is needed")
	for _, v := range values {
		get(t, v)
	}
	for i := range 10_000 {
		require.Equal(t, "key=<secret>", masks.String(fmt.Sprintf("key=secret of account %04d", i%1000)))
		require.Equal(t, "key=<secret>", all[i%1000].String(fmt.Sprintf("key=secret of account %04d", i%1000)))
		require.Equal(t, uint64(1), values[i%1000].Generation())
	}
	require.Equal(t, int64(1000), reads.Load())
}

func TestValueIsSafeForConcurrentUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	write(t, path, "content 0")
	v := File(path)
	mask, masks := NewMask(v), NewMask()
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for i := range 50 {
				_, err := v.Get()
				require.NoError(t, err)
				_ = v.Generation()
				masks.Replace(mask)
				_ = masks.String("a text with content 0")
				masks.Replace()
				_ = NewMask(v)
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
	masks.Replace(mask)
	require.Equal(t, "<secret> <secret>", masks.String("content 49 token 49"))
}

func BenchmarkGet(b *testing.B) {
	path := filepath.Join(b.TempDir(), "key")
	require.NoError(b, os.WriteFile(path, []byte(text), 0o600))
	v := File(path)
	for b.Loop() {
		_, _ = v.Get()
	}
}
