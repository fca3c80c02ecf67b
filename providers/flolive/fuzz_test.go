package flolive

import (
	"encoding/json"
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
		e, err := decodeEnvelope([]byte(body))
		failure := check(providers.Answer{Status: status, Body: []byte(body)}, e)
		if failure != nil {
			require.Contains(t, providers.Reasons(), failure.Reason)
			shown := providers.OneLine(withoutNumbers(failure.Message), maxMessage)
			require.True(t, utf8.ValidString(shown))
			require.False(t, strings.ContainsFunc(shown, unicode.IsControl))
			require.LessOrEqual(t, utf8.RuneCountInString(shown), maxMessage+1)
		} else {
			require.True(t, status >= 200 && status < 300)
		}
		if err != nil {
			return
		}
		require.True(t, json.Valid([]byte(body)))
		if p, ok := e.page(); ok {
			require.True(t, p.number >= 0 && p.size >= 0 && p.pages >= 0 && p.elements >= 0)
		}
		if token, err := decodeToken(e); err == nil {
			require.NotEmpty(t, token)
			require.NoError(t, checkHeader(token))
		}
		entries, err := e.entries()
		if err != nil {
			return
		}
		var list balances
		found := (&listing{account: &account{}}).newFound()
		for _, entry := range entries {
			list.add(entry)
			found.take(entry)
			if id, ok := decodeOffer(entry); ok {
				require.Empty(t, checkID(id))
			}
		}
		dropped := 0
		for _, n := range list.dropped {
			dropped += n
		}
		require.Equal(t, len(entries), len(list.rows)+dropped)
		for _, b := range list.rows {
			require.True(t, (b.Currency == "") != (b.Unit == ""))
			require.NotEmpty(t, b.ID)
			require.True(t, utf8.ValidString(b.ID+b.Currency+b.Unit))
			require.False(t, math.IsNaN(b.Value) || math.IsInf(b.Value, 0))
		}
		require.Equal(t, len(entries), found.records)
		for _, id := range found.ids {
			require.NotEmpty(t, id.value)
			require.False(t, strings.ContainsFunc(id.value, notInIdentifier))
		}
	})
}

func FuzzToken(f *testing.F) {
	f.Add("eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjE3NjM3NTI4MDAsImlhdCI6MTc2Mzc1MjIwMH0.c2ln")
	f.Add("a.eyJleHAiOi0xfQ==.b")
	f.Add("a.eyJleHAiOiIxZTMwMCIsImlhdCI6LTFlMzAwfQ.b")
	f.Add("opaque")
	f.Fuzz(func(t *testing.T, token string) {
		life, told := lifeOf(token, time.Unix(1_763_752_200, 0))
		require.Equal(t, told, life > 0)
		require.LessOrEqual(t, life, maxLife)
	})
}

func FuzzFile(f *testing.F) {
	f.Add("type,value,name,balance_ids\niccid,1,a,b c\n")
	f.Add("\ufeffvalue,type\r\n\"1\",\"imsi\"\r\n2,imei,\n")
	f.Add("type,value,name\nimsi,1,\"a\"\"b\"\nimsi,2,\"a\nimsi,1,\n")
	f.Fuzz(func(t *testing.T, text string) {
		listed := names{"7": 0}
		var file subscriberFile
		if file.parse(text, listed) != nil {
			require.Empty(t, file.ids)
			return
		}
		require.LessOrEqual(t, len(file.warnings), maxWarnings+1)
		require.LessOrEqual(t, len(file.ids), strings.Count(text, "\n"))
		seen := map[string]bool{"7": true}
		for _, id := range file.ids {
			again, fault := newIdentity(id.kind.String(), id.value, id.name, id.balanceIDs())
			require.Nil(t, fault)
			require.Equal(t, id, again)
			require.False(t, seen[id.value] || id.name != "" && seen[id.name])
			seen[id.value], seen[id.name] = true, true
		}
		for _, warning := range file.warnings {
			require.True(t, utf8.ValidString(warning))
			require.False(t, strings.ContainsFunc(warning, unicode.IsControl))
		}
	})
}

func FuzzRestore(f *testing.F) {
	f.Add([]byte(`{"at":1763752200,"ids":["a","b"]}`))
	f.Add([]byte(`{"iccid":["1"],"imsi":["1","2"],"x":["3"]}`))
	f.Fuzz(func(t *testing.T, kept []byte) {
		s := &subscriber{account: &account{}}
		if roster, err := s.Restore(kept); err == nil {
			require.Empty(t, roster)
			require.Positive(t, s.Requests())
		}
		l := newListing(&account{}, "c")
		if roster, err := l.Restore(kept); err == nil {
			seen := map[string]bool{}
			for _, found := range roster {
				require.False(t, seen[found.Key()])
				seen[found.Key()] = true
			}
		}
	})
}
