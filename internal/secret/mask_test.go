package secret

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMaskHidesEveryForm(t *testing.T) {
	const secret = `a/b+c d&"e\ü<`
	asJSON, err := json.Marshal(secret)
	require.NoError(t, err)
	mask := NewMask(Inline(secret))
	for name, form := range map[string]string{
		"raw":                      secret,
		"query":                    url.QueryEscape(secret),
		"path":                     url.PathEscape(secret),
		"query with %20":           strings.ReplaceAll(url.QueryEscape(secret), "+", "%20"),
		"query in lower case":      "a%2fb%2bc+d%26%22e%5c%c3%bc%3c",
		"user":                     url.User(secret).String(),
		"JSON":                     strings.Trim(string(asJSON), `"`),
		"JSON without HTML":        `a/b+c d&\"e\\ü<`,
		"JSON with escaped slash":  `a\/b+c d&\"e\\ü<`,
		"path in JSON":             `a%2Fb+c%20d\u0026%22e%5C%C3%BC%3C`,
		"quoted":                   strings.Trim(fmt.Sprintf("%q", secret), `"`),
		"quoted in ASCII":          strings.Trim(fmt.Sprintf("%+q", secret), `"`),
		"base64":                   base64.StdEncoding.EncodeToString([]byte(secret)),
		"base64 without padding":   base64.RawStdEncoding.EncodeToString([]byte(secret)),
		"base64 for URLs":          base64.URLEncoding.EncodeToString([]byte(secret)),
		"base64 for URLs, no pad.": base64.RawURLEncoding.EncodeToString([]byte(secret)),
		"base64 in a query":        url.QueryEscape(base64.RawStdEncoding.EncodeToString([]byte(secret))),
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, "key is <secret>", mask.String("key is "+form))
			require.Equal(t, `{"<secret>":"<secret>"}`, mask.String(`{"`+form+`":"`+form+`"}`))
		})
	}
}

// TestMaskInLongerBase64 holds that exactly the characters with bits of the
// secret are hidden, wherever in the encoded text it is.
func TestMaskInLongerBase64(t *testing.T) {
	for _, secret := range []string{"1234", "12345", "123456", "\xff\xfe\xfb\xff/secret??>>", "pässwörd"} {
		mask := NewMask(Inline(secret))
		for before := range 7 {
			for after := range 7 {
				plain := strings.Repeat("u", before) + secret + strings.Repeat("~", after)
				from, to := 8*before/6, (8*(before+len(secret))+5)/6
				for _, encoding := range []*base64.Encoding{
					base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding,
				} {
					encoded := encoding.EncodeToString([]byte(plain))
					want := encoded[:from] + hidden + encoded[to:]
					if after == 0 {
						want = strings.TrimRight(want, "=")
					}
					require.Equal(t, "Basic "+want+".", mask.String("Basic "+encoded+"."), "%d before, %d after, %q", before, after, secret)
				}
			}
		}
	}
}

func TestMaskJoinsSecretsThatOverlap(t *testing.T) {
	mask := NewMask(Inline("abcdef"), Inline("defghi"), Inline("abcd"), Inline("aaaa"))
	require.Equal(t, "-<secret>-", mask.String("-abcdefghi-"))
	require.Equal(t, "-<secret>-", mask.String("-aaaaaaa-"))
	require.Equal(t, "-<secret><secret>e-", mask.String("-defghiabcde-"))
}

func TestMaskLeavesOtherTextAlone(t *testing.T) {
	mask := NewMask(nil, Inline(""), Inline("abc"), Inline("long enough"), File(filepath.Join(t.TempDir(), "missing")))
	mask.Add("")
	mask.Add("üüü")
	for _, s := range []string{"", "a", "abc", "long enoug", "ong enough", "üüü", strings.Repeat("lo", 100)} {
		require.Equal(t, s, mask.String(s))
	}
	var none *Mask
	none.Add("long enough")
	require.Equal(t, "long enough", none.String("long enough"))
}

func TestMaskFollowsAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	write(t, path, "first secret")
	v := File(path)
	mask := NewMask(v)
	require.Equal(t, "<secret>, second secret", mask.String("first secret, second secret"))

	write(t, path, "second secret")
	require.Equal(t, "<secret>, <secret>", mask.String("first secret, second secret"), "an earlier content stays hidden")

	write(t, path, "between two looks of the mask")
	require.Equal(t, "between two looks of the mask", get(t, v))
	write(t, path, "last secret")
	require.Equal(t, "<secret>, <secret>", mask.String("between two looks of the mask, last secret"))

	for i := range keptContents {
		write(t, path, fmt.Sprintf("secret %02d", i))
		require.Equal(t, uint64(5+i), v.Generation())
	}
	require.Equal(t, "first secret, <secret>, <secret>", mask.String("first secret, secret 00, secret 63"), "no growth for ever")
}

func TestMaskKeepsTheNewestTexts(t *testing.T) {
	mask := NewMask(Inline("the key"))
	mask.Add("old token")
	mask.Add("dear token")
	for i := range keptAdded - 1 {
		mask.Add(fmt.Sprintf("token %02d", i))
		mask.Add("dear token")
	}
	require.Equal(t, "old token", mask.String("old token"))
	require.Equal(t, "<secret> <secret> <secret> <secret>", mask.String("the key dear token token 00 token 62"))
}

func FuzzMask(f *testing.F) {
	f.Add("user:", "s3cr3t", "")
	f.Add("", "a/b+c", "\n")
	f.Add("aba", "abab", "aba")
	f.Add("", "\xff\xfe\xfd\xfc", "\xff")
	f.Fuzz(func(t *testing.T, before, secret, after string) {
		if tooShort(secret) || strings.ContainsAny(secret, "<>") || strings.Contains(hidden, secret) {
			t.Skip()
		}
		mask := NewMask(Inline(secret))
		for _, encode := range []func(string) string{
			func(s string) string { return s },
			url.QueryEscape,
			url.PathEscape,
			func(s string) string { return fmt.Sprintf("%q", s) },
		} {
			masked := mask.String(before + encode(secret) + after)
			if !strings.Contains(masked, hidden) || strings.Contains(masked, secret) {
				t.Fatalf("%q is in %q", secret, masked)
			}
		}
		plain := before + secret + after
		for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.RawURLEncoding} {
			masked := mask.String(encoding.EncodeToString([]byte(plain)))
			if !strings.Contains(masked, hidden) {
				t.Fatalf("%q is in the base64 text %q", secret, masked)
			}
		}
	})
}

func BenchmarkMaskNothing(b *testing.B) {
	var values []*Value
	for i := range 20 {
		values = append(values, Inline(fmt.Sprintf("secret of account %d", i)))
	}
	mask := NewMask(values...)
	line := strings.Repeat("an ordinary line of a log, as it is written all day; ", 4)
	b.ReportAllocs()
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		_ = mask.String(line)
	}
}
