package flolive

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"iter"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/kit"
)

// seed adds every body of testdata.
func seed(f *testing.F) {
	f.Helper()
	bodies, err := filepath.Glob("testdata/*.json")
	require.NoError(f, err)
	for _, path := range bodies {
		body, err := os.ReadFile(path)
		require.NoError(f, err)
		f.Add(200, string(body))
	}
	f.Add(500, `{"status":500,"message":"No static resource api/v2/subscriber/imsi/1."}`)
	f.Add(401, "<html>")
	f.Add(200, `{"content":[{"token":"a.eyJleHAiOjF9.b"}]}`)
	f.Add(200, `{"content":[{"id":"a","type":"USAGE"},{"iccid":"1","status":"ACTIVE","imsiMsisdnPairs":[{"imsi":2}]}],"pageable":{"page":1e9}}`)
}

// FuzzAnswer decodes a body as each kind of answer.
func FuzzAnswer(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, status int, body string) {
		a := providers.Answer{Status: status, Body: []byte(body), Quote: providers.OneLine}
		e, err := parse(a)
		var failure *providers.Error
		if errors.As(err, &failure) {
			require.Contains(t, providers.Reasons(), failure.Reason)
			shown := withoutNumbers(failure.Message)
			require.True(t, utf8.ValidString(shown))
			require.False(t, strings.ContainsFunc(shown, unicode.IsControl))
			require.LessOrEqual(t, utf8.RuneCountInString(shown), 500)
			return
		}
		require.True(t, a.OK())
		if err != nil {
			return
		}
		require.True(t, json.Valid([]byte(body)))
		if token, err := decodeToken(e.records); err == nil {
			require.NotEmpty(t, token)
		}
		n := 0
		for range e.records {
			n++
		}
		balances, offers, listed := newTally(2*n+1, decodeBalance), newTally(2*n+1, decodeOffer), newTally(2*n+1, (&listing{account: &account{}}).decode)
		for _, add := range []func(iter.Seq[kit.Raw], kit.QuotedNumber) (int, int, error){balances.add, offers.add, listed.add} {
			all, fresh, err := add(e.records, kit.QuotedNumber{})
			require.NoError(t, err)
			require.Equal(t, n, all)
			require.LessOrEqual(t, fresh, all)
			all, fresh, err = add(e.records, kit.QuotedNumber{})
			require.NoError(t, err)
			require.Equal(t, n, all)
			require.Zero(t, fresh, "the same answer again")
		}
		require.Equal(t, n, len(balances.values)+balances.unusable)
		for _, b := range balances.values {
			require.True(t, (b.Currency == "") != (b.Unit == ""))
			require.NotEmpty(t, b.ID)
			require.True(t, utf8.ValidString(b.ID+b.Currency+b.Unit))
			require.False(t, math.IsNaN(b.Value) || math.IsInf(b.Value, 0))
		}
		for _, o := range offers.values {
			require.Empty(t, checkID(o.id))
		}
		roster, kept := (&listing{account: &account{}}).roster(listed.values)
		restored, err := (&listing{account: &account{}}).restore(kept)
		require.NoError(t, err)
		require.Equal(t, identities(roster), identities(restored))
		distinct := map[string]bool{}
		for _, id := range identities(roster) {
			require.Empty(t, checkIdentifier(id.value))
			require.True(t, id.found)
			distinct[id.value] = true
		}
		require.Equal(t, roster.Len(), len(distinct))
	})
}

// identities returns what the sources of a roster read.
func identities(r providers.Roster) []identity {
	all := make([]identity, r.Len())
	for i := range all {
		all[i] = identityOf(r.Source(i).(*subscriber).record)
	}
	return all
}

func FuzzFile(f *testing.F) {
	f.Add("type,value,name,balance_ids\niccid,1,a,b c\n")
	f.Add("\ufeffvalue,type\r\n\"1\",\"imsi\"\r\n2,imei,\n")
	f.Add("type,value\n\ufeff\nimsi,1\n\"\"\n")
	f.Add("type,value,name\nimsi,1,\"a\"\"b\"\nimsi,2,\"a\nimsi,1,\n")
	f.Fuzz(func(t *testing.T, text string) {
		listed := newNames()
		listed.add(identity{value: "7"}.record(nil), 0)
		var file subscriberFile
		if err := file.parse(t.Context(), strings.NewReader(text), int64(len(text)), listed); err != nil {
			require.True(t, utf8.ValidString(err.Error()))
			require.False(t, strings.ContainsFunc(err.Error(), unicode.IsControl))
			return
		}
		require.LessOrEqual(t, len(file.warnings), maxWarnings+1)
		ids := identities(roster{nil, file.names.subscribers})
		require.LessOrEqual(t, len(ids), strings.Count(text, "\n"))
		require.True(t, len(ids) > 0 || len(file.warnings) == 0, "all lines are bad")
		seen := map[string]bool{"7": true}
		for _, id := range ids {
			again, fault := newIdentity(id.kind.String(), id.value, id.name, append([]string{}, id.ids...))
			require.Nil(t, fault)
			require.Equal(t, id.key(), again.key())
			require.False(t, seen[id.value] || id.name != "" && seen[id.name])
			seen[id.value], seen[id.name] = true, true
		}
		for _, warning := range file.warnings {
			require.True(t, utf8.ValidString(warning))
			require.NotContains(t, warning, "%!")
			require.False(t, strings.ContainsFunc(warning, unicode.IsControl))
		}
	})
}

func FuzzRestore(f *testing.F) {
	f.Add(offers{time.Unix(1763752200, 0), []string{"a", "e7fcef24-5c03-41dd-9e33-995b7d6f32b1"}}.kept())
	f.Add([]byte("\x00\x051\x01\x0912\x03\x04a"))
	f.Fuzz(func(t *testing.T, kept []byte) {
		s := &subscriber{account: &account{}, record: identity{value: "1"}.record(nil)}
		if roster, err := s.restore(kept); err == nil {
			require.Empty(t, roster)
			require.Positive(t, s.Describe().Requests)
		}
		if o, err := keptOffers(kept); err == nil {
			for _, id := range o.ids {
				require.Empty(t, checkID(id))
			}
			again, err := keptOffers(o.kept())
			require.NoError(t, err)
			require.Equal(t, o, again)
		}
		l := &listing{account: &account{}, customer: "c"}
		if roster, err := l.restore(kept); err == nil {
			seen := map[string]bool{}
			for found := range providers.Sources(roster) {
				require.False(t, seen[found.Describe().Key])
				seen[found.Describe().Key] = true
			}
		}
	})
}

// FuzzLine compares the fields of a line with those that encoding/csv finds.
func FuzzLine(f *testing.F) {
	for _, line := range []string{"imsi,1", ",", "a\rb, c ,", `imsi,"1,2"`, `a"b,c`, "\u2028,\xff"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if text = strings.TrimSpace(text); text == "" || strings.Contains(text, "\n") {
			return
		}
		standard := csv.NewReader(strings.NewReader(text))
		standard.FieldsPerRecord = -1
		want, wantErr := standard.Read()
		var in csvLine
		require.NoError(t, in.readHeader([]byte("type,value")))
		got, err := in.split([]byte(text))
		require.Equal(t, wantErr == nil, err == nil)
		if err == nil {
			require.Equal(t, want, got)
		}
	})
}
