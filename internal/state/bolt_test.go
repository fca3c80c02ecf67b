package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/providers"
)

var start = time.Date(2026, time.March, 29, 0, 59, 59, 123456789, time.UTC)

// aBalance returns a snapshot of a balance.
func aBalance(amount float64) *snapshot.Snapshot {
	return &snapshot.Snapshot{
		Reading:   providers.Reading{Balance: &providers.Balance{Amount: amount, Currency: "USD"}},
		FetchedAt: start, TriedAt: start, DueAt: start.Add(time.Minute),
	}
}

// mustOpen opens a store that writes only when told to.
func mustOpen(t testing.TB, path string, logger log.Logger) *bolt {
	t.Helper()
	b, err := openBolt(path, logger)
	require.NoError(t, err)
	close(b.done) // there is no run to wait for
	return b
}

// sources returns all kept snapshots of an account.
func sources(t testing.TB, s Store, id string) map[string]*snapshot.Snapshot {
	t.Helper()
	got := make(map[string]*snapshot.Snapshot)
	require.NoError(t, s.LoadSources(id, func(key string, s *snapshot.Snapshot) { got[key] = s }))
	return got
}

// anAccount is an account with every field set.
var anAccount = Account{
	Quota:  quota.State{FullAt: start, BlockedUntil: start.Add(time.Hour)},
	Reason: providers.ReasonRateLimited, Limited: 3, Refused: 1, LimitedAt: start,
}

// makeFiles makes a pair of files with pages of every kind (branches, overflow,
// inline buckets, free pages) and returns the path.
func makeFiles(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state.db")
	b := mustOpen(t, path, log.NewNopLogger())
	require.NoError(t, b.SaveAccount("fleet", anAccount))
	require.NoError(t, b.SaveAccount("fleet", anAccount))
	require.NoError(t, b.SaveAccount("other", Account{Limited: 1}))
	for i := range 200 {
		b.SaveSource("fleet", fmt.Sprintf("sim-%03d", i), aBalance(float64(i)))
	}
	large := aBalance(1)
	large.Reading.Prices = make([]providers.Price, 100)
	b.SaveSource("prices", "large", large)
	b.SaveSource("other", "balance", aBalance(2))
	require.NoError(t, b.flush())
	b.DropSources("fleet", []string{"sim-007", "sim-008"})
	require.NoError(t, b.flush())
	b.SaveSource("prices", "large", large)
	require.NoError(t, b.Close())
	return path
}

// edit changes the bytes of a file.
func edit(t testing.TB, path string, change func(data []byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, change(data), 0o600))
}

// asideOf returns the names of the files that were set aside for path.
func asideOf(t testing.TB, path string) []string {
	t.Helper()
	names, err := filepath.Glob(path + ".damaged-*")
	require.NoError(t, err)
	return names
}

// requireWorks opens the store at path, saves something and finds it again.
func requireWorks(t testing.TB, path string, logger log.Logger) {
	t.Helper()
	b := mustOpen(t, path, logger)
	b.SaveSource("new", "k", aBalance(5))
	require.NoError(t, b.SaveAccount("new", Account{Limited: 9}))
	require.NoError(t, b.Retain([]string{"new", "fleet"}))
	require.NoError(t, b.Close())

	b = mustOpen(t, path, log.NewNopLogger())
	require.Equal(t, map[string]*snapshot.Snapshot{"k": aBalance(5)}, sources(t, b, "new"))
	account, err := b.LoadAccount("new")
	require.NoError(t, err)
	require.Equal(t, Account{Limited: 9}, account)
	require.NoError(t, b.Close())
}

// sealMeta changes both meta pages by fn and makes their checksums fit again.
func sealMeta(data []byte, fn func(meta []byte)) []byte {
	for at := 0; at < 2*os.Getpagesize(); at += os.Getpagesize() {
		meta := data[at+pageHeaderSize:][:metaSize]
		fn(meta)
		sum := fnv.New64a()
		_, _ = sum.Write(meta[:56])
		binary.NativeEndian.PutUint64(meta[56:], sum.Sum64())
	}
	return data
}

// currentMeta returns the meta page in force.
func currentMeta(data []byte) boltMeta {
	m, err := findMeta(bytes.NewReader(data))
	if err != nil {
		panic(err)
	}
	return m
}

// pageOf returns the page with an id.
func pageOf(data []byte, id uint64) []byte {
	return data[id*uint64(os.Getpagesize()):][:os.Getpagesize()]
}

// pageOfKind returns a page in use of a kind, other than the root.
func pageOfKind(data []byte, kind uint16) []byte {
	m := currentMeta(data)
	w := walk{r: bytes.NewReader(data), meta: m, used: make([]bool, m.pages)}
	todo := []subtree{{root: m.root, top: true}}
	for len(todo) > 0 {
		next := todo[0]
		below, err := w.tree(next)
		if err != nil {
			panic(err)
		}
		if p := page(pageOf(data, next.root)); next.root != m.root && p.flags() == kind {
			return p
		}
		todo = append(todo[1:], below...)
	}
	panic("no such page")
}

func TestUnusableFileIsSetAside(t *testing.T) {
	native := binary.NativeEndian
	for name, tt := range map[string]struct {
		change func(data []byte) []byte
		reason string
	}{
		"text":  {func([]byte) []byte { return []byte("hello\n") }, "file is too short"},
		"zeros": {func([]byte) []byte { return make([]byte, 1<<16) }, "no bolt file"},
		"another program's file": {func([]byte) []byte {
			return append([]byte("SQLite format 3\x00"), make([]byte, 1<<14)...)
		}, "no bolt file"},
		"both meta pages damaged": {func(data []byte) []byte {
			data[20+40]++
			data[os.Getpagesize()+20+40]++
			return data
		}, "meta page has a wrong checksum"},
		"newer bolt": {func(data []byte) []byte {
			return sealMeta(data, func(m []byte) { native.PutUint32(m[4:], 3) })
		}, "bolt file of version 3, expected 2"},
		"page size": {func(data []byte) []byte {
			return sealMeta(data, func(m []byte) { native.PutUint32(m[8:], 12345) })
		}, "page size of 12345 bytes"},
		"root beyond the end": {func(data []byte) []byte {
			return sealMeta(data, func(m []byte) { native.PutUint64(m[16:], 1<<40) })
		}, "page 1099511627776: beyond the end"},
		"root is a meta page": {func(data []byte) []byte {
			return sealMeta(data, func(m []byte) { native.PutUint64(m[16:], 1) })
		}, "page 1: second use of page 1"},
		"end beyond the file": {func(data []byte) []byte {
			return sealMeta(data, func(m []byte) { native.PutUint64(m[40:], 1<<60) })
		}, "file is cut short"},
		"free list is no free list": {func(data []byte) []byte {
			copy(pageOf(data, currentMeta(data).freelist)[8:], []byte{leafPage})
			return data
		}, "kind 0x2 where the list of free pages should be"},
		"free list is endless": {func(data []byte) []byte {
			p := pageOf(data, currentMeta(data).freelist)
			native.PutUint16(p[10:], 0xFFFF)
			native.PutUint64(p[16:], 1<<62)
			return data
		}, "4611686018427387904 free pages do not fit"},
		"page in use is free": {func(data []byte) []byte {
			m := currentMeta(data)
			p := pageOf(data, m.freelist)
			native.PutUint16(p[10:], 1)
			native.PutUint64(p[16:], m.root)
			return data
		}, "free page: second use of page"},
		"page with another's number": {func(data []byte) []byte {
			pageOfKind(data, leafPage)[0] ^= 1
			return data
		}, "calls itself page"},
		"page of no kind": {func(data []byte) []byte {
			pageOfKind(data, leafPage)[8] = 0x40
			return data
		}, "kind 0x40 where a branch or leaf should be"},
		"endless page": {func(data []byte) []byte {
			native.PutUint32(pageOfKind(data, leafPage)[12:], 0xFFFFFFFF)
			return data
		}, "beyond the end"},
		"too many elements": {func(data []byte) []byte {
			native.PutUint16(pageOfKind(data, leafPage)[10:], 0xFFFF)
			return data
		}, ": "},
		"no elements": {func(data []byte) []byte {
			native.PutUint16(pageOfKind(data, branchPage)[10:], 0)
			return data
		}, "branch without elements"},
		"loop": {func(data []byte) []byte {
			p := pageOfKind(data, branchPage)
			native.PutUint64(p[pageHeaderSize+8:], native.Uint64(p))
			return data
		}, "second use of page"},
		"key outside its page": {func(data []byte) []byte {
			native.PutUint32(pageOfKind(data, leafPage)[pageHeaderSize+4:], 0xFFFFFFF0)
			return data
		}, "outside the page"},
		"value outside its page": {func(data []byte) []byte {
			native.PutUint32(pageOfKind(data, leafPage)[pageHeaderSize+12:], 0xFFFFFFF0)
			return data
		}, "outside the page"},
		"keys out of order": {func(data []byte) []byte {
			return bytes.ReplaceAll(data, []byte("sim-100"), []byte("sim-001"))
		}, "out of order"},
		"newer format": {func(data []byte) []byte {
			return bytes.ReplaceAll(data, []byte("format1"), []byte("format2"))
		}, `format "2", expected "1": written by another version of the exporter`},
		"bolt file of another program": {func(data []byte) []byte {
			return bytes.ReplaceAll(data, []byte("meta"), []byte("mate"))
		}, "not a file of this exporter"},
		"bolt file without sources": {func(data []byte) []byte {
			return bytes.ReplaceAll(data, []byte("sources"), []byte("zources"))
		}, "no sources in it"},
	} {
		t.Run(name, func(t *testing.T) {
			path := makeFiles(t)
			edit(t, path, tt.change)
			was, err := os.ReadFile(path)
			require.NoError(t, err)

			var logged bytes.Buffer
			requireWorks(t, path, log.NewJSONLogger(&logged))
			aside := asideOf(t, path)
			require.Len(t, aside, 1)
			kept, err := os.ReadFile(aside[0])
			require.NoError(t, err)
			require.True(t, bytes.Equal(was, kept), "the file is kept as it was")
			require.Contains(t, logged.String(), `"level":"error"`)
			require.Contains(t, logged.String(), aside[0])
			require.Contains(t, loggedError(t, &logged), tt.reason)

			b := mustOpen(t, path, log.NewNopLogger())
			account, err := b.LoadAccount("fleet")
			require.NoError(t, err)
			require.Equal(t, anAccount, account, "spent quota is not lost with the snapshots")
			require.NoError(t, b.Close())
		})
	}
}

func TestTruncatedFile(t *testing.T) {
	path := makeFiles(t)
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	needed := int(currentMeta(whole).pages) * os.Getpagesize()
	for size := len(whole) - 1; size > 0; size -= 509 {
		dir := t.TempDir()
		path := filepath.Join(dir, "state.db")
		require.NoError(t, os.WriteFile(path, whole[:size], 0o600))
		requireWorks(t, path, log.NewNopLogger())
		require.Equal(t, size < needed, len(asideOf(t, path)) == 1, "cut to %d bytes of %d", size, needed)
	}
}

func TestOneDamagedMetaPageIsNoDamage(t *testing.T) {
	for i := range 2 {
		path := makeFiles(t)
		edit(t, path, func(data []byte) []byte {
			// The elder one is the remains of a commit that never was.
			older := sealMeta(bytes.Clone(data), func([]byte) {})
			if int(currentMeta(older).txid%2) == i {
				return data
			}
			data[i*os.Getpagesize()+pageHeaderSize+50]++
			return data
		})
		b := mustOpen(t, path, log.NewNopLogger())
		require.Empty(t, asideOf(t, path))
		require.Len(t, sources(t, b, "fleet"), 198)
		require.NoError(t, b.Close())
	}
}

func TestEmptyFileIsNew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.NoError(t, os.WriteFile(path+".accounts", nil, 0o600))
	requireWorks(t, path, log.NewNopLogger())
	require.Empty(t, asideOf(t, path))
	require.Empty(t, asideOf(t, path+".accounts"))
}

func TestFilesSetAsideInOneSecondHaveNamesOfTheirOwn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	for range 3 {
		require.NoError(t, os.WriteFile(path, []byte("hello"), 0o600))
		requireWorks(t, path, log.NewNopLogger())
	}
	require.Len(t, asideOf(t, path), 3)
}

func TestFileThatCannotBeSetAsideIsNotFatal(t *testing.T) {
	// With its new name the file name would be too long.
	path := filepath.Join(t.TempDir(), strings.Repeat("x", 240))
	require.NoError(t, os.WriteFile(path, []byte("hello"), 0o600))
	var logged bytes.Buffer
	s, err := OpenBolt(path, log.NewLogfmtLogger(&logged))
	require.NoError(t, err)
	require.IsType(t, NewMemory(), s)
	require.Contains(t, logged.String(), "state is kept in memory only")
	left, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "hello", string(left))
}

func TestDamagedRecordIsLeftOut(t *testing.T) {
	path := makeFiles(t)
	edit(t, path, func(data []byte) []byte {
		return bytes.ReplaceAll(data, []byte(`"amount":42,`), []byte(`"amount":43,`))
	})
	var logged bytes.Buffer
	b := mustOpen(t, path, log.NewLogfmtLogger(&logged))
	got := sources(t, b, "fleet")
	require.Len(t, got, 197)
	require.NotContains(t, got, "sim-042")
	require.Contains(t, logged.String(), "records=1")
	require.NoError(t, b.Close())
}

func TestFileInUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	first, err := OpenBolt(path, log.NewNopLogger())
	require.NoError(t, err)
	_, err = OpenBolt(path, log.NewNopLogger())
	require.EqualError(t, err, "state file "+path+": in use by another process: stop that one, or give each process a --state.url of its own")
	require.Empty(t, asideOf(t, path))
	require.NoError(t, first.Close())
	second, err := OpenBolt(path, log.NewNopLogger())
	require.NoError(t, err)
	require.NoError(t, second.Close())
}

func TestMode(t *testing.T) {
	path := makeFiles(t)
	for _, name := range []string{path, path + ".accounts"} {
		info, err := os.Stat(name)
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
		require.NoError(t, os.Chmod(name, 0o644))
	}
	var logged bytes.Buffer
	require.NoError(t, mustOpen(t, path, log.NewLogfmtLogger(&logged)).Close())
	for _, name := range []string{path, path + ".accounts"} {
		info, err := os.Stat(name)
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
		require.Contains(t, logged.String(), "file="+name+" mode_was=0644")
	}
}

func TestSourcesThatCannotBeWrittenStayQueued(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	var logged bytes.Buffer
	b := mustOpen(t, path, log.NewLogfmtLogger(&logged))
	b.SaveSource("a", "old", aBalance(1))
	b.SaveSource("a", "dropped", aBalance(1))
	require.NoError(t, b.flush())

	b.db.MaxSize = 1 // the disk is full
	large := aBalance(2)
	large.Reading.Prices = make([]providers.Price, 1000)
	b.SaveSource("a", "large", large)
	b.SaveSource("a", "twice", aBalance(3))
	b.DropSources("a", []string{"dropped"})
	require.ErrorIs(t, b.flush(), bolterrors.ErrMaxSizeReached)
	b.SaveSource("a", "twice", aBalance(4))
	require.ErrorIs(t, b.flush(), bolterrors.ErrMaxSizeReached)
	want := map[string]*snapshot.Snapshot{"old": aBalance(1), "large": large, "twice": aBalance(4)}
	require.Equal(t, want, sources(t, b, "a"))
	require.NoError(t, b.SaveAccount("a", anAccount), "accounts do not depend on it")

	err := b.flush()
	for range 100 {
		b.report(err)
	}
	require.Equal(t, 1, strings.Count(logged.String(), "state cannot be written"))

	b.db.MaxSize = 0
	require.NoError(t, b.Close())
	b = mustOpen(t, path, log.NewNopLogger())
	require.Equal(t, want, sources(t, b, "a"))
	require.NoError(t, b.Close())
}

func TestPanicInBboltEndsWritingOnly(t *testing.T) {
	b := mustOpen(t, filepath.Join(t.TempDir(), "state.db"), log.NewNopLogger())
	err := b.update(func(*bbolt.Tx) error { panic("page 7 already freed") })
	require.ErrorIs(t, err, errBroken)
	require.ErrorContains(t, err, "page 7 already freed")
	require.NoError(t, b.SaveAccount("a", anAccount))
	b.SaveSource("a", "k", aBalance(1))
	require.ErrorIs(t, b.flush(), errBroken)
	require.ErrorIs(t, b.Close(), errBroken)
}

func TestClosedStore(t *testing.T) {
	s, err := OpenBolt(filepath.Join(t.TempDir(), "state.db"), log.NewNopLogger())
	require.NoError(t, err)
	require.NoError(t, s.Close())
	_, err = s.LoadAccount("a")
	require.ErrorIs(t, err, errClosed)
	require.ErrorIs(t, s.SaveAccount("a", Account{}), errClosed)
	require.ErrorIs(t, s.LoadSources("a", nil), errClosed)
	require.ErrorIs(t, s.Retain(nil), errClosed)
	s.SaveSource("a", "k", aBalance(1))
	s.DropSources("a", []string{"k"})
}

// TestCheckAcceptsWhatBboltWrites lets a file grow and shrink at random and checks
// it after each commit.
func TestCheckAcceptsWhatBboltWrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	b := mustOpen(t, path, log.NewNopLogger())
	b.db.NoSync = true
	random := uint32(1)
	next := func(n uint32) int { random = random*1664525 + 1013904223; return int((random >> 8) % n) }
	for range 150 {
		for range next(400) {
			v := aBalance(float64(next(1000)))
			if next(50) == 0 {
				v.Reading.Prices = make([]providers.Price, next(300))
			}
			b.SaveSource(fmt.Sprint(next(5)), fmt.Sprintf("%d-%d", next(10), next(300)), v)
		}
		for range next(500) {
			b.DropSources(fmt.Sprint(next(5)), []string{fmt.Sprintf("%d-%d", next(10), next(300))})
		}
		if next(20) == 0 {
			require.NoError(t, b.Retain([]string{"0", "1", "2"}))
		}
		require.NoError(t, b.flush())
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, checkBolt(bytes.NewReader(data), int64(len(data))))
	}
	require.NoError(t, b.Close())
}

func FuzzOpen(f *testing.F) {
	path := makeFiles(f)
	whole, err := os.ReadFile(path)
	require.NoError(f, err)
	accounts, err := os.ReadFile(path + ".accounts")
	require.NoError(f, err)
	dir := f.TempDir()
	f.Add(uint32(0), []byte{})
	f.Add(uint32(4096), []byte{0x00, 0x40, 0xFF})
	f.Add(uint32(1), []byte{0x20, 0x08, 0x10, 0x20, 0x0A, 0xFF, 0x00, 0x01, 0x02})
	// cut is how much is missing at the end; each three bytes of edits are a
	// place, in steps of 1 byte over the first 64 KiB, and what is there instead.
	f.Fuzz(func(t *testing.T, cut uint32, edits []byte) {
		name := filepath.Join(dir, fmt.Sprintf("%d.db", os.Getpid()))
		defer func() {
			names, _ := filepath.Glob(name + "*")
			for _, n := range names {
				_ = os.Remove(n)
			}
		}()
		for file, data := range map[string][]byte{name: bytes.Clone(whole), name + ".accounts": bytes.Clone(accounts)} {
			for e := edits; len(e) >= 3; e = e[3:] {
				data[int(binary.BigEndian.Uint16(e))%len(data)] = e[2]
			}
			data = data[:len(data)-int(cut)%len(data)]
			require.NoError(t, os.WriteFile(file, data, 0o600))
		}
		b := mustOpen(t, name, log.NewNopLogger())
		sources(t, b, "fleet")
		for i := range 50 {
			b.SaveSource("fleet", fmt.Sprintf("sim-%03d", 4*i), aBalance(1))
			b.DropSources("fleet", []string{fmt.Sprintf("sim-%03d", 4*i+1)})
		}
		require.NoError(t, b.SaveAccount("fleet", anAccount))
		if err := b.flush(); err != nil && !errors.Is(err, errBroken) {
			t.Fatal(err)
		}
		require.Contains(t, sources(t, b, "fleet"), "sim-004")
		if err := b.Close(); err != nil && !errors.Is(err, errBroken) {
			t.Fatal(err)
		}
	})
}
