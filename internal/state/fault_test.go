package state_test

import (
	"bytes"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/internal/state"
	"github.com/balance-exporter/balance_exporter/internal/state/statetest"
)

// slow turns on the long form of tests.
var slow = os.Getenv("BALANCE_EXPORTER_SLOW") == "1"

// coolDown is a quota record that must not be forgotten.
var coolDown = quota.Account{BlockedUntil: statetest.Start.Add(300 * time.Second), Cause: quota.CauseRateLimited, Limited: 1}

// observer records the operations of a store.
type observer struct {
	mu     sync.Mutex
	ops    []string // "update" or "update: error"
	claims []string
}

func (o *observer) Operation(op string, took time.Duration, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if took < 0 {
		op += " took less than nothing"
	}
	if err != nil {
		op += ": error"
	}
	o.ops = append(o.ops, op)
}

func (o *observer) Claimed(result string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.claims = append(o.claims, result)
}

// takeClaims returns the answers to claims since the last call.
func (o *observer) takeClaims() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	claims := o.claims
	o.claims = nil
	return claims
}

// take returns the operations since the last call.
func (o *observer) take() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	ops := o.ops
	o.ops = nil
	return ops
}

// open opens the store at path. Its log and operations go to the returned values.
func open(t testing.TB, path string) (state.Store, *bytes.Buffer, *observer) {
	t.Helper()
	logged, observed := new(bytes.Buffer), new(observer)
	s, err := state.Open("sqlite:"+path, state.Options{Logger: log.NewSyncLogger(log.NewJSONLogger(logged)), Observer: observed})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s, logged, observed
}

// levels returns level and message of each line of a log.
func levels(t testing.TB, logged *bytes.Buffer) []string {
	t.Helper()
	var lines []string
	for line := range strings.Lines(logged.String()) {
		var fields struct{ Level, Msg string }
		require.NoError(t, json.Unmarshal([]byte(line), &fields))
		lines = append(lines, fields.Level+": "+fields.Msg)
	}
	return lines
}

const (
	lineRenamed   = "error: state file cannot be used; it is renamed and a new one is created"
	lineUnwritten = "error: state file cannot be written; the state is in memory until it can"
	lineRecovered = "info: state file can be written again"
	lineRemoved   = "error: state file was removed or replaced; it is opened again"
)

// written is what makeFiles writes.
func written() map[string]*snapshot.Snapshot {
	want := map[string]*snapshot.Snapshot{"prices": statetest.Prices(100)}
	for i := range 200 {
		want[fmt.Sprintf("sim-%03d", i)] = statetest.Balance(float64(i))
	}
	return want
}

// makeFiles writes and closes a store, and returns its path.
func makeFiles(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state.db")
	s, _, _ := open(t, path)
	statetest.Publish(t, s, "fleet", written())
	for i := range 100 {
		statetest.SetQuota(t, s, fmt.Sprint("account ", i), coolDown)
	}
	statetest.SetQuota(t, s, "account 42", quota.Account{Limited: 77})
	require.NoError(t, s.Close())
	return path
}

// edit changes the bytes of a file.
func edit(t testing.TB, path string, change func(data []byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, change(data), 0o600))
}

// quarantined returns the names of the files that were renamed.
func quarantined(t testing.TB, path string) []string {
	t.Helper()
	names, err := filepath.Glob(path + ".damaged-*")
	require.NoError(t, err)
	return slices.DeleteFunc(names, func(name string) bool { return strings.HasSuffix(name, "-wal") })
}

// afterKill copies the files of a store in use, as the end of its process would
// leave them, and returns the path of the copy.
func afterKill(t testing.TB, path string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "state.db")
	for _, suffix := range []string{"", "-wal", ".quota", ".quota-wal"} {
		data, err := os.ReadFile(path + suffix)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(to+suffix, data, 0o600))
	}
	return to
}

// requireSound opens the store at path and checks that it holds nothing but what
// was written, and works.
func requireSound(t testing.TB, path string) (got map[string]*snapshot.Snapshot, logged *bytes.Buffer) {
	t.Helper()
	s, logged, _ := open(t, path)
	want := written()
	got = statetest.Snapshots(t, s, "fleet")
	for key, shot := range got {
		require.Equal(t, want[key], shot)
	}
	statetest.Publish(t, s, "new", map[string]*snapshot.Snapshot{"k": statetest.Balance(5)})
	statetest.SetQuota(t, s, "new", quota.Account{Limited: 9})
	require.NoError(t, s.Close())

	s, again, _ := open(t, path)
	require.Equal(t, map[string]*snapshot.Snapshot{"k": statetest.Balance(5)}, statetest.Snapshots(t, s, "new"))
	require.Equal(t, quota.Account{Limited: 9}, statetest.Quota(t, s, "new"))
	require.NoError(t, s.Close())
	require.NotContains(t, levels(t, again), lineRenamed)
	return got, logged
}

func TestDamagedFileIsRenamed(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(t *testing.T, path string)
		reason string
	}{
		"text": {func(t *testing.T, path string) { edit(t, path, func([]byte) []byte { return []byte("hello\n") }) }, "not a database"},
		"long text": {func(t *testing.T, path string) {
			edit(t, path, func([]byte) []byte { return []byte(strings.Repeat("hello\n", 5000)) })
		}, "not a database"},
		"zeros":             {func(t *testing.T, path string) { edit(t, path, func(d []byte) []byte { return make([]byte, len(d)) }) }, "not a database"},
		"cut in first page": {func(t *testing.T, path string) { edit(t, path, func(d []byte) []byte { return d[:1000] }) }, ""},
		"cut in last page":  {func(t *testing.T, path string) { edit(t, path, func(d []byte) []byte { return d[:len(d)-10] }) }, "are not a multiple of the page size"},
		"cut to half": {func(t *testing.T, path string) {
			edit(t, path, func(d []byte) []byte { return d[:len(d)/2/state.PageSize*state.PageSize] })
		}, "malformed"},
		"page of zeros": {func(t *testing.T, path string) {
			edit(t, path, func(d []byte) []byte { copy(d[state.PageSize:], make([]byte, state.PageSize)); return d })
		}, "file is damaged"},
		"flipped bit in table": {func(t *testing.T, path string) {
			edit(t, path, func(d []byte) []byte {
				return bytes.Replace(d, []byte("CREATE TABLE records"), []byte("CREATE TABLE recordr"), 1)
			})
		}, ""},
		"header says read-only": {func(t *testing.T, path string) { edit(t, path, func(d []byte) []byte { d[18] = 9; return d }) }, "file is damaged"},
		"newer format": {func(t *testing.T, path string) {
			edit(t, path, func(d []byte) []byte { binary.BigEndian.PutUint32(d[60:], 2); return d })
		}, "format 2, expected 1: written by another version of the exporter or by another program"},
		"file of another program": {func(t *testing.T, path string) {
			require.NoError(t, os.Remove(path))
			db, err := sql.Open("sqlite", path)
			require.NoError(t, err)
			_, err = db.Exec("CREATE TABLE users (name TEXT)")
			require.NoError(t, err)
			require.NoError(t, db.Close())
			require.NoError(t, os.Chmod(path, 0o600))
		}, "format 0, expected 1: written by another version of the exporter or by another program"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, suffix := range []string{"", ".quota"} {
				path := makeFiles(t)
				tt.change(t, path+suffix)
				was, err := os.ReadFile(path + suffix)
				require.NoError(t, err)

				got, logged := requireSound(t, path)
				require.Equal(t, []string{lineRenamed}, levels(t, logged))
				require.Contains(t, logged.String(), tt.reason)
				renamed := quarantined(t, path+suffix)
				require.Len(t, renamed, 1)
				require.Contains(t, logged.String(), renamed[0])
				left, err := os.ReadFile(renamed[0])
				require.NoError(t, err)
				require.True(t, bytes.Equal(was, left), "the renamed file has changed")
				s, _, _ := open(t, path)
				if suffix == "" {
					require.Empty(t, got)
					require.Equal(t, coolDown, statetest.Quota(t, s, "account 7"), "quota is lost with the snapshots")
				} else {
					require.Len(t, got, len(written()), "snapshots are lost with the quota")
					require.Zero(t, statetest.Quota(t, s, "account 7"))
				}
			}
		})
	}
}

func TestTruncatedFile(t *testing.T) {
	path := makeFiles(t)
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	step := len(whole)/40 | 1
	if slow {
		step = 101
	}
	for size := len(whole) - 1; size > 0; size -= step {
		path := afterKill(t, path)
		require.NoError(t, os.WriteFile(path, whole[:size], 0o600))
		got, _ := requireSound(t, path)
		require.Empty(t, got)
		require.Len(t, quarantined(t, path), 1, "cut to %d bytes of %d", size, len(whole))
		s, _, _ := open(t, path)
		require.Equal(t, coolDown, statetest.Quota(t, s, "account 7"))
		require.NoError(t, s.Close())
	}
}

func TestFlippedBits(t *testing.T) {
	path := makeFiles(t)
	for _, suffix := range []string{"", ".quota"} {
		whole, err := os.ReadFile(path + suffix)
		require.NoError(t, err)
		// The header, the schema, and a sample of the rest.
		var places []int
		schema := bytes.Index(whole, []byte("CREATE TABLE"))
		for at := range whole {
			switch {
			case slow && at < state.PageSize && at%5 == 0, at < 110 && at%4 == 0, at > schema-30 && at < schema+100 && at%15 == 0, at%(len(whole)/15) == 0:
				places = append(places, at)
			}
		}
		for _, at := range places {
			path := afterKill(t, path)
			data := slices.Clone(whole)
			data[at] ^= 1 << (at % 8)
			require.NoError(t, os.WriteFile(path+suffix, data, 0o600))
			got, _ := requireSound(t, path)
			s, _, _ := open(t, path)
			if suffix == "" {
				require.Equal(t, coolDown, statetest.Quota(t, s, "account 7"), "byte %d", at)
			} else {
				require.Len(t, got, len(written()), "byte %d", at)
				require.Contains(t, []quota.Account{coolDown, {}}, statetest.Quota(t, s, "account 7"), "byte %d", at)
			}
			require.NoError(t, s.Close())
		}
	}
}

func TestDamagedRecordIsLeftOut(t *testing.T) {
	path := makeFiles(t)
	for path, record := range map[string][]byte{
		path:            state.EncodeSnapshot("fleet", "sim-042", written()["sim-042"]),
		path + ".quota": state.EncodeQuota("account 42", quota.Account{Limited: 77}),
	} {
		edit(t, path, func(data []byte) []byte {
			require.True(t, bytes.Contains(data, record))
			damaged := slices.Clone(record)
			damaged[len(damaged)-1] ^= 1
			return bytes.ReplaceAll(data, record, damaged)
		})
	}
	s, logged, observed := open(t, path)
	require.Contains(t, levels(t, logged), "warn: some quota records cannot be read; their accounts start with their whole quota")
	require.Zero(t, statetest.Quota(t, s, "account 42"))
	require.Equal(t, coolDown, statetest.Quota(t, s, "account 7"))
	observed.take()
	got := statetest.Snapshots(t, s, "fleet")
	require.Len(t, got, len(written())-1)
	require.NotContains(t, got, "sim-042")
	require.Contains(t, levels(t, logged), "warn: some snapshots cannot be read; they are fetched again")
	require.Equal(t, 2, strings.Count(logged.String(), `"err":"1 damaged records"`))
	require.Equal(t, []string{"load: error"}, observed.take())
	require.Empty(t, quarantined(t, path))
}

func TestEmptyFileIsNew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.NoError(t, os.WriteFile(path+".quota", nil, 0o600))
	_, logged := requireSound(t, path)
	require.Empty(t, logged.String())
}

func TestMissingOrCutWAL(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s, _, _ := open(t, path)
	for key, shot := range written() { // a transaction each
		statetest.Publish(t, s, "fleet", map[string]*snapshot.Snapshot{key: shot})
	}
	path = afterKill(t, path)
	whole, err := os.ReadFile(path + "-wal")
	require.NoError(t, err)
	last := -1
	for _, size := range []int{-1, 0, 10, 32, 33, len(whole) / 3, len(whole) / 2, len(whole) - 1, len(whole)} {
		path := afterKill(t, path)
		require.NoError(t, os.Remove(path+"-wal"))
		if size >= 0 {
			require.NoError(t, os.WriteFile(path+"-wal", whole[:size], 0o600))
		}
		got, logged := requireSound(t, path)
		require.Empty(t, logged.String())
		require.GreaterOrEqual(t, len(got), last)
		last = len(got)
	}
	require.Len(t, written(), last, "the whole -wal file brings everything back")
}

func TestDamagedFileThatCannotBeRenamed(t *testing.T) {
	// The new name would be too long.
	path := filepath.Join(t.TempDir(), strings.Repeat("x", 240))
	require.NoError(t, os.WriteFile(path, []byte("hello"), 0o600))
	s, logged, observed := open(t, path)
	require.Equal(t, []string{lineUnwritten}, levels(t, logged))
	require.Contains(t, logged.String(), "damaged, and cannot be renamed")
	want := map[string]*snapshot.Snapshot{"k": statetest.Balance(1)}
	statetest.Publish(t, s, "a", want)
	require.Equal(t, want, statetest.Snapshots(t, s, "a"))
	require.Equal(t, []string{"claim", "publish: error", "load"}, observed.take())
	require.ErrorContains(t, s.Close(), "lacks the last changes")
	left, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "hello", string(left))
}

func TestFilesInUse(t *testing.T) {
	path := makeFiles(t)
	first, _, _ := open(t, path)
	entries := func() (names []string) {
		list, err := os.ReadDir(filepath.Dir(path))
		require.NoError(t, err)
		for _, e := range list {
			info, err := e.Info()
			require.NoError(t, err)
			names = append(names, fmt.Sprint(e.Name(), " ", info.Size(), " ", info.ModTime()))
		}
		return names
	}
	before := entries()
	for _, used := range []string{path, path + ".quota"} {
		_, err := state.Open("sqlite:"+used, state.Options{Logger: log.NewNopLogger()})
		require.EqualError(t, err, "state file "+used+": in use by another process: stop that one, or give each process a --state.url of its own")
	}
	require.Equal(t, before, entries())
	require.NoError(t, first.Close())
	got, logged := requireSound(t, path)
	require.Len(t, got, len(written()))
	require.Empty(t, logged.String())
}

func TestQuotaFileAsSnapshotFile(t *testing.T) {
	path := makeFiles(t)
	s, logged, _ := open(t, path+".quota")
	require.Empty(t, statetest.Snapshots(t, s, "fleet"))
	require.NoError(t, s.Close())
	require.Empty(t, logged.String())
	s, _, _ = open(t, path)
	require.Equal(t, coolDown, statetest.Quota(t, s, "account 7"))
}

func TestFilesRemovedWhileRunning(t *testing.T) {
	for name, suffixes := range map[string][]string{
		"snapshots": {""}, "quota": {".quota"}, "wal": {"-wal", ".quota-wal"},
		"everything": {"", "-wal", ".quota", ".quota-wal"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state.db")
			s, logged, _ := open(t, path)
			statetest.SetQuota(t, s, "a", coolDown)
			statetest.Publish(t, s, "a", map[string]*snapshot.Snapshot{"old": statetest.Balance(1)})
			for _, suffix := range suffixes {
				require.NoError(t, os.Remove(path+suffix))
			}
			statetest.SetQuota(t, s, "b", quota.Account{Limited: 2})
			want := map[string]*snapshot.Snapshot{"new": statetest.Balance(2)}
			statetest.Publish(t, s, "a", want)
			require.Contains(t, levels(t, logged), lineRemoved)

			restarted, again, _ := open(t, afterKill(t, path))
			require.Empty(t, again.String())
			require.Equal(t, coolDown, statetest.Quota(t, restarted, "a"))
			require.Equal(t, quota.Account{Limited: 2}, statetest.Quota(t, restarted, "b"))
			require.Equal(t, statetest.Balance(2), statetest.Snapshots(t, restarted, "a")["new"])
		})
	}
}

// TestFileDamagedWhileRunning overwrites a file that is larger than the library's
// cache.
func TestFileDamagedWhileRunning(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s, _, _ := open(t, path)
	many := make(map[string]*snapshot.Snapshot)
	for i := range 20_000 {
		many[fmt.Sprint(i)] = statetest.Balance(float64(i))
		many[fmt.Sprint(i)].Reading.Subscriber = strings.Repeat("x", 100)
	}
	statetest.Publish(t, s, "fleet", many)
	require.NoError(t, s.Close())
	s, logged, observed := open(t, path)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(bytes.Repeat([]byte("garbage"), 1<<20), state.PageSize)
	require.NoError(t, err)
	require.NoError(t, f.Close())

	want := map[string]*snapshot.Snapshot{"1": statetest.Balance(-1), "5555": statetest.Balance(-1), "9999": statetest.Balance(-1)}
	statetest.Publish(t, s, "fleet", want)
	require.Equal(t, []string{"claim", "publish: error"}, observed.take())
	require.Contains(t, levels(t, logged), lineRenamed)
	require.Len(t, quarantined(t, path), 1)
	require.Equal(t, want, statetest.Snapshots(t, s, "fleet"), "from memory")
	statetest.SetQuota(t, s, "a", coolDown)
	statetest.Publish(t, s, "fleet", nil) // writes what is missing
	require.Contains(t, levels(t, logged), lineRecovered)
	restarted, again, _ := open(t, afterKill(t, path))
	require.Empty(t, again.String())
	require.Equal(t, want, statetest.Snapshots(t, restarted, "fleet"))
	require.Equal(t, coolDown, statetest.Quota(t, restarted, "a"))
}

func TestDirectoryRemovedWhileRunning(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	require.NoError(t, os.Mkdir(dir, 0o700))
	path := filepath.Join(dir, "state.db")
	s, logged, observed := open(t, path)
	statetest.SetQuota(t, s, "a", coolDown)
	require.NoError(t, os.RemoveAll(dir))
	observed.take()
	for range 3 {
		statetest.SetQuota(t, s, "b", quota.Account{Limited: rand.IntN(100) + 3})
	}
	require.Equal(t, []string{"update: error", "update: error", "update: error"}, observed.take())
	require.Equal(t, []string{lineRemoved, lineUnwritten}, levels(t, logged))
	require.NoError(t, os.Mkdir(dir, 0o700))
	statetest.SetQuota(t, s, "b", quota.Account{Limited: 2})
	require.Equal(t, []string{"update"}, observed.take())
	require.Equal(t, []string{lineRemoved, lineUnwritten, lineRecovered}, levels(t, logged))
	restarted, _, _ := open(t, afterKill(t, path))
	require.Equal(t, coolDown, statetest.Quota(t, restarted, "a"))
	require.Equal(t, quota.Account{Limited: 2}, statetest.Quota(t, restarted, "b"))
}

func TestModeOfExistingFileIsCorrected(t *testing.T) {
	path := makeFiles(t)
	for _, name := range []string{path, path + ".quota"} {
		require.NoError(t, os.Chmod(name, 0o644))
	}
	s, logged, _ := open(t, path)
	statetest.SetQuota(t, s, "a", coolDown)
	require.Equal(t, 2, strings.Count(logged.String(), `"mode_was":"0644"`))
	requireMode(t, path)
}

// requireMode checks that only the owner has rights on any file of a store.
func requireMode(t *testing.T, path string) {
	t.Helper()
	for _, suffix := range []string{"", "-wal", ".quota", ".quota-wal"} {
		info, err := os.Stat(path + suffix)
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o600), info.Mode().Perm(), suffix)
	}
}

func TestSymbolicLink(t *testing.T) {
	path := makeFiles(t)
	link := filepath.Join(t.TempDir(), "link.db")
	require.NoError(t, os.Symlink(path, link))
	got, logged := requireSound(t, link)
	require.Len(t, got, len(written()))
	require.Empty(t, logged.String())
}

func TestOldRecordsAreForgotten(t *testing.T) {
	path := makeFiles(t)
	old := time.Now().Add(-state.Retention - time.Hour).Unix()
	for suffix, query := range map[string]string{"": "key = CAST('sim-042' AS BLOB)", ".quota": "id = CAST('account 7' AS BLOB)"} {
		db, err := sql.Open("sqlite", path+suffix)
		require.NoError(t, err)
		result, err := db.Exec("UPDATE records SET written = ? WHERE "+query, old)
		require.NoError(t, err)
		n, err := result.RowsAffected()
		require.NoError(t, err)
		require.EqualValues(t, 1, n)
		require.NoError(t, db.Close())
	}
	s, logged, _ := open(t, path)
	got := statetest.Snapshots(t, s, "fleet")
	require.Len(t, got, len(written())-1)
	require.NotContains(t, got, "sim-042")
	require.Zero(t, statetest.Quota(t, s, "account 7"))
	require.Equal(t, coolDown, statetest.Quota(t, s, "account 8"))
	require.Empty(t, logged.String())
}

func TestCheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "state.db")
		s, _, _ := open(t, path)
		statetest.SetQuota(t, s, "a", coolDown)
		statetest.Publish(t, s, "fleet", written())
		time.Sleep(state.CheckpointDelay)
		synctest.Wait()
		killed := afterKill(t, path)
		require.NoError(t, os.Remove(killed+"-wal"))
		require.NoError(t, os.Remove(killed+".quota-wal"))
		restarted, _, _ := open(t, killed)
		require.Len(t, statetest.Snapshots(t, restarted, "fleet"), len(written()))
		require.Equal(t, coolDown, statetest.Quota(t, restarted, "a"))
		require.NoError(t, restarted.Close())
		require.NoError(t, s.Close())
	})
}

func TestObserver(t *testing.T) {
	for _, url := range []string{"memory:", "sqlite:" + filepath.Join(t.TempDir(), "state.db")} {
		observed := new(observer)
		s, err := state.Open(url, state.Options{Logger: log.NewNopLogger(), Observer: observed})
		require.NoError(t, err)
		statetest.SetQuota(t, s, "a", coolDown)
		statetest.Publish(t, s, "a", map[string]*snapshot.Snapshot{"k": statetest.Balance(1)})
		statetest.Snapshots(t, s, "a")
		require.NoError(t, s.Close())
		require.Equal(t, []string{"update", "claim", "publish", "load"}, observed.take())
	}
}

func TestClosedStore(t *testing.T) {
	path := makeFiles(t)
	s, _, _ := open(t, path)
	require.NoError(t, s.Close())
	_, err := s.Update(t.Context(), "a", func(quota.Account, time.Time) quota.Account { return coolDown })
	require.EqualError(t, err, "state store is closed")
	require.EqualError(t, s.Load(t.Context(), "a", nil, nil), "state store is closed")
	_, err = s.Publish(t.Context(), "a", []state.Outcome{{Key: "k", Snapshot: statetest.Balance(1)}})
	require.EqualError(t, err, "state store is closed")
}

func TestUpdateDoesNotWaitForPublish(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s, _, _ := open(t, path)
	unlock := state.LockSnapshots(s)
	const publishers = 20
	done := make(chan struct{}, publishers)
	for i := range publishers {
		go func() {
			statetest.Publish(t, s, "a", map[string]*snapshot.Snapshot{fmt.Sprint(i): statetest.Balance(1)})
			done <- struct{}{}
		}()
	}
	for state.WaitingFlushes(s) < publishers {
		runtime.Gosched()
	}
	statetest.SetQuota(t, s, "a", coolDown) // returns while all of them wait
	require.Empty(t, done)
	unlock()
	for range publishers {
		<-done
		// One transaction has written all of them.
		require.Zero(t, state.WaitingFlushes(s))
	}
	require.Len(t, statetest.Snapshots(t, s, "a"), publishers)
}

func TestLoadReturnsWhatTheFileLacks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s, _, _ := open(t, path)
	statetest.Publish(t, s, "a", map[string]*snapshot.Snapshot{"changed": statetest.Balance(1), "gone": statetest.Balance(1), "same": statetest.Balance(1)})
	require.NoError(t, os.RemoveAll(filepath.Dir(path)))
	statetest.Publish(t, s, "a", map[string]*snapshot.Snapshot{"changed": statetest.Balance(2), "gone": nil, "new": statetest.Balance(2)})
	statetest.Publish(t, s, "b", map[string]*snapshot.Snapshot{"k": statetest.Balance(3)})
	require.True(t, reflect.DeepEqual(map[string]*snapshot.Snapshot{"changed": statetest.Balance(2), "new": statetest.Balance(2)}, statetest.Snapshots(t, s, "a")))
	require.Error(t, s.Close())
}

// disk is a directory whose file system can be full.
type disk struct {
	dir        string
	fill, free func(t *testing.T)
}

// TestFullFile needs no small disk: the library itself refuses to let files grow.
func TestFullFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s, logged, observed := open(t, path)
	testFullDisk(t, path, s, logged, observed, disk{
		fill: func(t *testing.T) { require.NoError(t, state.LimitFiles(s, true)) },
		free: func(t *testing.T) { require.NoError(t, state.LimitFiles(s, false)) },
	})
}

func testFullDisk(t *testing.T, path string, s state.Store, logged *bytes.Buffer, observed *observer, d disk) {
	statetest.SetQuota(t, s, "a", quota.Account{Limited: 1})
	statetest.Publish(t, s, "a", map[string]*snapshot.Snapshot{"old": statetest.Balance(1), "gone": statetest.Balance(1)})
	observed.take()

	d.fill(t)
	want := statetest.Prices(2000)
	for range 3 {
		statetest.Publish(t, s, "a", map[string]*snapshot.Snapshot{"prices": want, "gone": nil})
	}
	for i := range 300 { // until the space that the files have already is used up
		statetest.SetQuota(t, s, fmt.Sprint("new ", i), quota.Account{Limited: i + 1})
	}
	statetest.SetQuota(t, s, "a", coolDown)
	ops := observed.take()
	require.Equal(t, []string{"claim", "publish: error"}, ops[:2])
	require.Equal(t, "update: error", ops[len(ops)-1])
	require.Equal(t, []string{lineUnwritten, lineUnwritten}, levels(t, logged), "one line for each file")
	require.Equal(t, coolDown, statetest.Quota(t, s, "a"))
	require.Equal(t, map[string]*snapshot.Snapshot{"old": statetest.Balance(1), "prices": want}, statetest.Snapshots(t, s, "a"))

	d.free(t)
	observed.take()
	statetest.SetQuota(t, s, "c", quota.Account{Limited: 1})
	statetest.Publish(t, s, "c", map[string]*snapshot.Snapshot{"k": statetest.Balance(1)})
	require.Equal(t, []string{"update", "claim", "publish"}, observed.take())
	require.Equal(t, []string{lineUnwritten, lineUnwritten, lineRecovered, lineRecovered}, levels(t, logged))
	restarted, again, _ := open(t, afterKill(t, path))
	require.Empty(t, again.String())
	require.Equal(t, coolDown, statetest.Quota(t, restarted, "a"))
	for i := range 300 {
		require.Equal(t, quota.Account{Limited: i + 1}, statetest.Quota(t, restarted, fmt.Sprint("new ", i)))
	}
	require.Equal(t, map[string]*snapshot.Snapshot{"old": statetest.Balance(1), "prices": want}, statetest.Snapshots(t, restarted, "a"))
	require.Equal(t, map[string]*snapshot.Snapshot{"k": statetest.Balance(1)}, statetest.Snapshots(t, restarted, "c"))
	require.NoError(t, s.Close())
}

// FuzzOpen opens files with random damage.
func FuzzOpen(f *testing.F) {
	path := makeFiles(f)
	f.Add(uint32(0), []byte{})
	f.Add(uint32(4096), []byte{0, 0x40, 0xFF})
	f.Add(uint32(1), []byte{0, 0x20, 8, 0x10, 0x20, 0x0A, 0xFF, 0, 1})
	// cut is how much is missing at the end; each three bytes of edits are a place
	// and what is there instead.
	f.Fuzz(func(t *testing.T, cut uint32, edits []byte) {
		path := afterKill(t, path)
		for _, suffix := range []string{"", ".quota"} {
			edit(t, path+suffix, func(data []byte) []byte {
				for e := edits; len(e) >= 3; e = e[3:] {
					data[int(binary.BigEndian.Uint16(e))%len(data)] = e[2]
				}
				return data[:len(data)-int(cut)%len(data)]
			})
		}
		requireSound(t, path)
	})
}
