package kit_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/providers/kit"
)

func TestCompactTexts(t *testing.T) {
	const id = "e7fcef24-5c03-41dd-9e33-995b7d6f32b1"
	for name, tt := range map[string]struct {
		text string
		size int // bytes
	}{
		"nothing":                 {"", 1},
		"a name":                  {"truck-12", 9},
		"a long name":             {strings.Repeat("é", 128), 258},
		"an ICCID of 20 digits":   {"89445012345678901234", 11},
		"an ICCID of 19 digits":   {"8944501234567890123", 11},
		"zeros":                   {"000", 3},
		"a digit":                 {"0", 2},
		"64 digits":               {strings.Repeat("9", 64), 34},
		"a telephone number":      {"+447700900123", 14},
		"a UUID":                  {id, 17},
		"a UUID in capitals":      {strings.ToUpper(id), 38},
		"a UUID in braces":        {"{" + id + "}", 40},
		"36 digits":               {strings.Repeat("1", 36), 20},
		"36 letters":              {strings.Repeat("a", 36), 38},
		"digits of other scripts": {"١٢", 5},
		"no valid UTF-8":          {"\xff", 2},
	} {
		t.Run(name, func(t *testing.T) {
			b := kit.AppendText([]byte("before"), tt.text)
			require.Len(t, b, len("before")+tt.size)
			text, rest, ok := kit.CutText(append(b[len("before"):], "after"...))
			require.True(t, ok)
			require.Equal(t, tt.text, text)
			require.Equal(t, "after", string(rest))
			for i := range tt.size {
				_, _, ok := kit.CutText(b[len("before"):][:i])
				require.False(t, ok, "%d bytes of it", i)
			}
		})
	}
}

func FuzzCompactText(f *testing.F) {
	f.Add([]byte("\x0btext"), "89445012345678901234")
	f.Add([]byte("\x51\xff"), "e7fcef24-5c03-41dd-9e33-995b7d6f32b1")
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), "")
	f.Add([]byte("\x06"), "a")
	f.Fuzz(func(t *testing.T, b []byte, s string) {
		if text, rest, ok := kit.CutText(b); ok {
			split, after, ok := kit.SplitText(b)
			require.True(t, ok)
			require.Equal(t, rest, after)
			again, _, ok := kit.CutText(kit.AppendText(nil, text))
			require.True(t, ok)
			require.Equal(t, text, again)
			require.LessOrEqual(t, len(text), 4*len(split))
		}
		text, rest, ok := kit.CutText(append(kit.AppendText(nil, s), b...))
		require.True(t, ok)
		require.Equal(t, s, text)
		require.Equal(t, string(b), string(rest))
	})
}
