package state

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-kit/log"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/providers"
)

// openAccountsFile opens path.
func openAccountsFile(t *testing.T, path string) *accountFile {
	t.Helper()
	a, err := openAccounts(path, log.NewNopLogger())
	require.NoError(t, err)
	return a
}

func TestUnusableAccountsFileIsSetAside(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(data []byte) []byte
		reason string
	}{
		"cut short": {func(data []byte) []byte { return data[:100] }, "file is cut short"},
		"zeros":     {func(data []byte) []byte { return make([]byte, len(data)) }, "not a file of this exporter"},
		"foreign":   {func([]byte) []byte { return []byte(strings.Repeat("hello ", 1000)) }, "not a file of this exporter"},
		"too large": {func([]byte) []byte { return make([]byte, maxAccountsSize+1) }, "more than 33554432 bytes"},
		"newer": {func(data []byte) []byte {
			return bytes.Replace(data, []byte("format 1\n"), []byte("format 2\n"), 1)
		}, `format "2\n", expected "1\n": written by another version of the exporter`},
	} {
		t.Run(name, func(t *testing.T) {
			path := makeFiles(t)
			edit(t, path+".accounts", tt.change)
			var logged bytes.Buffer
			b := mustOpen(t, path, log.NewJSONLogger(&logged))
			require.Len(t, asideOf(t, path+".accounts"), 1)
			require.Contains(t, loggedError(t, &logged), tt.reason)
			account, err := b.LoadAccount("fleet")
			require.NoError(t, err)
			require.Zero(t, account)
			require.Len(t, sources(t, b, "fleet"), 198, "snapshots are not lost with the accounts")
			require.NoError(t, b.Close())
			requireWorks(t, path, log.NewNopLogger())
		})
	}
}

func TestDamagedAccountRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "accounts")
	a := openAccountsFile(t, path)
	for i := range 3 { // the third overwrites the first
		require.NoError(t, a.put("a", Account{Limited: i}))
		require.NoError(t, a.put("b", Account{Refused: i}))
	}
	require.NoError(t, a.close())
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Len(t, whole, 5*sectorSize)

	for at := sectorSize; at < 2*sectorSize; at++ {
		data := bytes.Clone(whole)
		data[at] ^= 0x10
		require.NoError(t, os.WriteFile(path, data, 0o600))
		a := openAccountsFile(t, path)
		require.Equal(t, Account{Limited: 1}, a.get("a"), "the older record stands, byte %d", at)
		require.Equal(t, Account{Refused: 2}, a.get("b"))
		require.NoError(t, a.close())
	}
	for size := sectorSize; size < len(whole); size += 37 {
		require.NoError(t, os.WriteFile(path, whole[:size], 0o600))
		a := openAccountsFile(t, path)
		require.NoError(t, a.put("c", anAccount))
		require.NoError(t, a.close())
		a = openAccountsFile(t, path)
		require.Equal(t, anAccount, a.get("c"))
		require.NoError(t, a.close())
	}
}

func TestForgottenAccountThatComesBackLosesToTheNewerOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "accounts")
	a := openAccountsFile(t, path)
	require.NoError(t, a.put("a", Account{Limited: 1}))
	require.NoError(t, a.put("b", Account{Limited: 2}))
	require.NoError(t, a.close())
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	a = openAccountsFile(t, path)
	require.NoError(t, a.retain(nil))
	require.NoError(t, a.put("b", Account{Limited: 3})) // in the place of a or b
	require.NoError(t, a.put("b", Account{Limited: 4}))
	require.NoError(t, a.close())
	// A power cut undoes the forgetting of every sector but those of b now.
	edit(t, path, func(data []byte) []byte {
		for at := 0; at < len(data); at += sectorSize {
			if len(bytes.Trim(data[at:at+sectorSize], "\x00")) == 0 {
				copy(data[at:at+sectorSize], before[at:])
			}
		}
		return data
	})
	a = openAccountsFile(t, path)
	require.Equal(t, Account{Limited: 4}, a.get("b"))
	require.NoError(t, a.put("new", anAccount))
	require.NoError(t, a.close())
	a = openAccountsFile(t, path)
	require.Equal(t, Account{Limited: 4}, a.get("b"))
	require.Equal(t, anAccount, a.get("new"))
	require.NoError(t, a.close())
}

// loggedError returns the attribute err of the only line logged.
func loggedError(t *testing.T, logged *bytes.Buffer) string {
	t.Helper()
	var line struct{ Err string }
	require.NoError(t, json.Unmarshal(logged.Bytes(), &line))
	return line.Err
}

// flakyFile is a file on a disk that can be full.
type flakyFile struct {
	sectorFile
	err error
}

func (f *flakyFile) WriteAt(p []byte, at int64) (int, error) {
	if f.err != nil {
		n, _ := f.sectorFile.WriteAt(p[:100], at)
		return n, f.err
	}
	return f.sectorFile.WriteAt(p, at)
}

func (f *flakyFile) Sync() error {
	if f.err != nil {
		return f.err
	}
	return f.sectorFile.Sync()
}

func TestAccountThatCannotBeWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	b := mustOpen(t, path, log.NewNopLogger())
	disk := &flakyFile{sectorFile: b.accounts.f}
	b.accounts.f = disk
	require.NoError(t, b.SaveAccount("a", Account{Limited: 1}))

	disk.err = os.ErrDeadlineExceeded
	for range 3 {
		require.ErrorIs(t, b.SaveAccount("a", Account{Limited: 2}), disk.err)
		require.ErrorIs(t, b.SaveAccount("b", Account{Limited: 2}), disk.err)
	}
	require.ErrorIs(t, b.flush(), disk.err)
	account, err := b.LoadAccount("a")
	require.NoError(t, err)
	require.Equal(t, Account{Limited: 1}, account)

	disk.err = nil
	require.NoError(t, b.Close())
	b = mustOpen(t, path, log.NewNopLogger())
	account, err = b.LoadAccount("a")
	require.NoError(t, err)
	require.Equal(t, Account{Limited: 1}, account)
	require.NoError(t, b.SaveAccount("b", Account{Limited: 3}))
	require.ErrorContains(t, b.SaveAccount("b", Account{Reason: providers.Reason(strings.Repeat("x", sectorSize))}), "at most 464 fit")
	require.NoError(t, b.Close())
}
