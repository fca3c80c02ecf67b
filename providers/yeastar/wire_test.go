package yeastar

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/providers"
)

// addSamples adds the documented bodies to the corpus.
func addSamples(f *testing.F, add func(body []byte)) {
	f.Helper()
	files, err := filepath.Glob("testdata/*.json")
	require.NoError(f, err)
	for _, file := range files {
		body, err := os.ReadFile(file)
		require.NoError(f, err)
		add(body)
	}
	add([]byte(`{"code":200,"status":"200","result":{"accountBalance":" -1e2 ","expiresIn":-1,"token":"t"}}`))
	add([]byte(`{"code":"\u0000\ud800","status":1e999,"result":{"accountBalance":"NaN"}}`))
}

func FuzzDecodeBalance(f *testing.F) {
	addSamples(f, func(body []byte) { f.Add(body) })
	f.Fuzz(func(t *testing.T, body []byte) {
		amount, err := decodeBalance(bytes.NewReader(body))
		require.False(t, math.IsNaN(amount) || math.IsInf(amount, 0))
		if err != nil {
			require.Zero(t, amount)
			return
		}
		require.True(t, json.Valid(body))
		require.True(t, bytes.ContainsAny(body, "0123456789"), "a number that was sent")
	})
}

func FuzzDecodeToken(f *testing.F) {
	addSamples(f, func(body []byte) { f.Add(body) })
	f.Fuzz(func(t *testing.T, body []byte) {
		token, err := decodeToken(bytes.NewReader(body))
		if err != nil {
			require.Zero(t, token)
			return
		}
		require.NotEmpty(t, token.access)
		for _, c := range []byte(token.access) {
			require.True(t, c > ' ' && c < 0x7f, "%q", token.access)
		}
		require.GreaterOrEqual(t, token.life, 0*accessLife)
		require.LessOrEqual(t, token.life, refreshLife)
	})
}

func FuzzCheck(f *testing.F) {
	addSamples(f, func(body []byte) {
		for _, status := range []int{200, 204, 304, 400, 401, 429, 500} {
			f.Add(status, body)
		}
	})
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		e := check(providers.Answer{Status: status, Body: body})
		if e == nil {
			require.True(t, status >= 200 && status < 300 && json.Valid(body))
			return
		}
		require.Contains(t, providers.Reasons(), e.Reason)
		require.Equal(t, status, e.Status)
		text := e.Error()
		require.True(t, utf8.ValidString(text))
		require.Less(t, utf8.RuneCountInString(text), 1000)
		require.False(t, slices.ContainsFunc([]rune(text), unicode.IsControl), "%q", text)
	})
}
