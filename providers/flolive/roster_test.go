package flolive

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/providers"
)

// TestRecordsOfIdentities: a record has everything that an identity has.
func TestRecordsOfIdentities(t *testing.T) {
	const id = "e7fcef24-5c03-41dd-9e33-995b7d6f32b1"
	for name, tt := range map[string]struct {
		id   identity
		size int // bytes
	}{
		"a card":            {identity{kind: iccid, value: "89445012345678901234", name: "truck-12", ids: []string{id}}, 46},
		"found":             {identity{kind: iccid, value: "8944501234567890123", found: true}, 21},
		"a telephone":       {identity{kind: msisdn, value: "+447700900123"}, 24},
		"a hexadecimal one": {identity{kind: imei, value: "89AB", name: "0"}, 16},
		"many balances":     {identity{kind: imsi, value: "1", ids: []string{id, "b", strings.ToUpper(id), "2"}}, 71},
		"long texts":        {identity{kind: imsi, value: strings.Repeat("1", maxValue), name: strings.Repeat("n", maxName), ids: []string{strings.Repeat("i", maxID)}}, 9 + 34 + 258 + 202},
	} {
		t.Run(name, func(t *testing.T) {
			record := tt.id.record(nil)
			require.Len(t, record, tt.size)
			require.Equal(t, tt.id, identityOf(record))
			label, ids := summary(record)
			require.Equal(t, tt.id.label(), label)
			require.Len(t, tt.id.ids, ids)
			value, name := parts(record)
			require.Equal(t, record[1+hashSize:1+hashSize+len(value)+len(name)], append(value, name...))
		})
	}
}

// TestKeys: a key is the same in every process, or stored values would be lost.
func TestKeys(t *testing.T) {
	id := identity{kind: iccid, value: "8944501234567890123", name: "truck-12", ids: []string{"b", "a"}}
	require.Equal(t, "e128c2ff859a647b", id.key())
	require.Equal(t, []string{"b", "a"}, id.ids)
	require.Equal(t, "590d73657f14dd05", identity{kind: imsi, value: "1", found: true}.key())
	n := newNames()
	n.add(id.record(nil), 0)
	require.Equal(t, id.key(), roster{nil, n.subscribers}.Key(0))
}

// TestNamesAreExact compares the table with maps, for few different texts and
// many, so that most are taken and most are not.
func TestNamesAreExact(t *testing.T) {
	for _, different := range []int{3, 100, 10_000, 100_000} {
		r := rand.New(rand.NewPCG(uint64(different), 0))
		n, where := newNames(), map[string]int{}
		at := 0
		for range 10_000 {
			at += 1 + max(0, r.IntN(20)-17) // most lines follow one another
			id := identity{kind: kind(r.IntN(len(kinds))), value: fmt.Sprint(r.IntN(different))}
			switch r.IntN(3) {
			case 0:
				id.name = fmt.Sprint(r.IntN(different))
			case 1:
				id.name = fmt.Sprintf("truck-%d", r.IntN(different))
			}
			record := id.record(nil)
			part, first, taken := n.taken(record)
			byName, nameTaken := where[id.name]
			byValue, valueTaken := where[id.value]
			require.Equal(t, nameTaken || valueTaken, taken, id)
			switch {
			case nameTaken:
				require.Equal(t, []any{"name", byName}, []any{part, first}, id)
			case valueTaken:
				require.Equal(t, []any{"identifier", byValue}, []any{part, first}, id)
			default:
				n.add(record, at)
				where[id.value] = at
				if id.name != "" {
					where[id.name] = at
				}
			}
		}
		c := configured{list: n}
		for i := range different {
			_, want := where[fmt.Sprint(i)]
			require.Equal(t, want, c.has(fmt.Sprint(i)))
		}
	}
}

// TestKeptIsSmall: what a subscriber keeps is stored and read for each of millions.
func TestKeptIsSmall(t *testing.T) {
	require.LessOrEqual(t, len(offers{time.Now(), []string{uuid.NewString()}}.kept()), 40)
}

// BenchmarkRestore restores what a subscriber or a listing has kept.
func BenchmarkRestore(b *testing.B) {
	a := &account{}
	b.Run("offers", func(b *testing.B) {
		kept := offers{time.Now(), []string{uuid.NewString()}}.kept()
		b.ReportAllocs()
		for b.Loop() {
			s := &subscriber{account: a}
			if _, err := s.restore(kept); err != nil || s.offers == nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("a listing of a million", func(b *testing.B) {
		const n = 1_000_000
		l := &listing{account: a}
		found := make([]identifier, n)
		for i := range found {
			found[i] = identifier{iccid, fmt.Sprintf("8944501%013d", i)}
		}
		_, kept := l.roster(found)
		b.ReportMetric(float64(len(kept))/n, "kept-bytes/SIM")
		b.ReportAllocs()
		var roster providers.Roster
		for b.Loop() {
			var err error
			if roster, err = l.restore(kept); err != nil {
				b.Fatal(err)
			}
		}
		require.Equal(b, n, roster.Len())
	})
}
