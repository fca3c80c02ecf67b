package yeastar

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
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

// answerOf returns an answer that quotes as it promises.
func answerOf(status int, body []byte) providers.Answer {
	return providers.Answer{Status: status, Body: body, Quote: func(text string, limit int) string {
		text = strings.ToValidUTF8(strings.Join(strings.FieldsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }), " "), "")
		runes := []rune(text)
		return string(runes[:min(limit, len(runes))])
	}}
}

func FuzzParseBalance(f *testing.F) {
	addSamples(f, func(body []byte) {
		for _, status := range []int{200, 202, 204, 304, 400, 401, 429, 500} {
			f.Add(status, body)
		}
	})
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		amount, err := parseBalance(answerOf(status, body))
		require.False(t, math.IsNaN(amount) || math.IsInf(amount, 0))
		if err == nil {
			require.True(t, status >= 200 && status < 300 && status != 202)
			require.True(t, json.Valid(body))
			require.True(t, bytes.ContainsAny(body, "0123456789"), "a number that was sent")
			return
		}
		require.Zero(t, amount)
		var e *providers.Error
		if !errors.As(err, &e) {
			require.True(t, status >= 200 && status < 300, "an error status is an error of its own")
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

func FuzzParseToken(f *testing.F) {
	addSamples(f, func(body []byte) { f.Add(body) })
	f.Fuzz(func(t *testing.T, body []byte) {
		token, err := parseToken(answerOf(200, body))
		if err != nil {
			require.Zero(t, token)
			require.NotContains(t, err.Error(), "eyJ.")
			return
		}
		require.True(t, json.Valid(body))
		require.True(t, utf8.ValidString(token.Access) && utf8.ValidString(token.Refresh))
	})
}
