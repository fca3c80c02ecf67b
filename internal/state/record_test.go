package state_test

import (
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/internal/state"
	"github.com/balance-exporter/balance_exporter/internal/state/statetest"
)

var update = flag.Bool("update", false, "write the golden records of a new format version")

// goldenValues returns what the golden records of the current version hold.
func goldenValues() (quota.Account, *snapshot.Snapshot) {
	a, s := quota.Account{}, new(snapshot.Snapshot)
	statetest.Fill(&a)
	statetest.Fill(s)
	s.Reading.Roster = nil
	return a, s
}

// TestGoldenRecords fails if the stored form changes. If an older exporter would
// misread the new form, or this one the old form, formatVersion has to change.
func TestGoldenRecords(t *testing.T) {
	account, shot := goldenValues()
	record := state.EncodeSnapshot("id", "key", shot)
	for name, got := range map[string][]byte{"quota": state.EncodeQuota("id", account), "snapshot": record} {
		path := filepath.Join("testdata", fmt.Sprintf("%s-v%d.record", name, state.FormatVersion))
		if *update {
			require.NoError(t, os.WriteFile(path, got, 0o600))
		}
		want, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, string(want), string(got), "the stored form has changed")
	}
	golden, err := os.ReadFile(filepath.Join("testdata", fmt.Sprintf("snapshot-v%d.record", state.FormatVersion)))
	require.NoError(t, err)
	decoded, err := state.DecodeSnapshot("id", "key", golden)
	require.NoError(t, err)
	require.Equal(t, shot, decoded)
	golden, err = os.ReadFile(filepath.Join("testdata", fmt.Sprintf("quota-v%d.record", state.FormatVersion)))
	require.NoError(t, err)
	got, err := state.DecodeQuota("id", golden)
	require.NoError(t, err)
	require.Equal(t, account, got)
}

// TestEveryFieldIsStored fails for a new field of the domain that is neither stored
// nor listed here.
func TestEveryFieldIsStored(t *testing.T) {
	notStored := []string{"Snapshot.Reading.Roster"} // Kept restores it

	account, shot := quota.Account{}, new(snapshot.Snapshot)
	statetest.Fill(&account)
	statetest.Fill(shot)
	gotAccount, err := state.DecodeQuota("id", state.EncodeQuota("id", account))
	require.NoError(t, err)
	record := state.EncodeSnapshot("id", "key", shot)
	gotShot, err := state.DecodeSnapshot("id", "key", record)
	require.NoError(t, err)

	var lost []string
	compareFields("Account", reflect.ValueOf(account), reflect.ValueOf(gotAccount), &lost)
	compareFields("Snapshot", reflect.ValueOf(*shot), reflect.ValueOf(*gotShot), &lost)
	require.Equal(t, notStored, lost)
}

// compareFields adds the paths of the fields that differ to lost.
func compareFields(path string, want, got reflect.Value, lost *[]string) {
	if want.Kind() == reflect.Struct && want.Type().PkgPath() != "time" {
		for i := range want.NumField() {
			compareFields(path+"."+want.Type().Field(i).Name, want.Field(i), got.Field(i), lost)
		}
		return
	}
	if want.IsZero() {
		panic(path + " is not filled")
	}
	if !reflect.DeepEqual(want.Interface(), got.Interface()) {
		*lost = append(*lost, path)
	}
}

func TestRecordIsBoundToItsNames(t *testing.T) {
	record := state.EncodeSnapshot("account", "key", statetest.Balance(1))
	got, err := state.DecodeSnapshot("account", "key", record)
	require.NoError(t, err)
	require.Equal(t, statetest.Balance(1), got)
	for _, names := range [][2]string{{"account", "key2"}, {"accoun", "tkey"}, {"", ""}} {
		_, err := state.DecodeSnapshot(names[0], names[1], record)
		require.EqualError(t, err, "record has a wrong checksum")
	}
}

func TestDamagedRecords(t *testing.T) {
	large := state.EncodeSnapshot("account", "key", statetest.Prices(100))
	require.Equal(t, byte(state.Deflated), large[1])
	small := state.EncodeSnapshot("account", "key", statetest.Balance(1))
	require.Equal(t, byte(state.Plain), small[1])
	for _, whole := range [][]byte{small, large} {
		for i := range whole {
			record := slices.Clone(whole)
			record[i] ^= 4
			_, err := state.DecodeSnapshot("account", "key", record)
			require.Error(t, err)
			_, err = state.DecodeSnapshot("account", "key", whole[:i])
			require.Error(t, err)
		}
	}
	small[0]++
	_, err := state.DecodeSnapshot("account", "key", small)
	require.EqualError(t, err, "record has format 2, expected 1")
}

func TestSizeOfAPriceList(t *testing.T) {
	record := state.EncodeSnapshot("account", "key", statetest.Prices(50_000))
	require.Less(t, len(record), 1<<20, "Redis gets the same record")
}

func FuzzRecord(f *testing.F) {
	_, filled := goldenValues()
	for _, s := range []*snapshot.Snapshot{statetest.Balance(0.1), filled, statetest.Prices(100)} {
		record := state.EncodeSnapshot("a", "k", s)
		f.Add(record[1], record[state.HeadSize:])
	}
	f.Add(byte(state.Plain), []byte{})
	f.Add(byte(state.Plain), slices.Repeat([]byte{0xff}, 100))
	f.Fuzz(func(t *testing.T, encoding byte, content []byte) {
		_, _ = state.DecodeSnapshot("a", "k", content) // rarely with the right checksum

		record := append([]byte{state.FormatVersion, encoding, 0, 0, 0, 0}, content...)
		binary.BigEndian.PutUint32(record[2:], state.Checksum("a", "k", record))
		s, err := state.DecodeSnapshot("a", "k", record)
		if err != nil {
			return
		}
		// What can be read can be written, and is the same when it is read again.
		written := state.EncodeSnapshot("a", "k", s)
		again, err := state.DecodeSnapshot("a", "k", written)
		require.NoError(t, err)
		rewritten := state.EncodeSnapshot("a", "k", again)
		require.Equal(t, written, rewritten)

		binary.BigEndian.PutUint32(record[2:], state.Checksum("a", "", record))
		_, _ = state.DecodeQuota("a", record)
	})
}
