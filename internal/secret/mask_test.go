package secret

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

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
		"query in a query":         url.QueryEscape(url.QueryEscape(secret)),
		"query in base64":          base64.RawStdEncoding.EncodeToString([]byte(url.QueryEscape(secret))),
		"JSON in a query":          url.QueryEscape(strings.Trim(string(asJSON), `"`)),
		"JSON in base64":           base64.RawStdEncoding.EncodeToString(bytes.Trim(asJSON, `"`)),
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
	mask, masks := NewMask(v), NewMask()
	masks.Replace(mask)
	requireMasked := func(want, text string) {
		t.Helper()
		require.Equal(t, want, mask.String(text))
		require.Equal(t, want, masks.String(text))
	}
	requireMasked("first secret", "first secret")
	get(t, v)
	requireMasked("<secret>, second secret", "first secret, second secret")

	write(t, path, "second secret")
	require.NoError(t, v.Refresh())
	requireMasked("<secret>, <secret>", "first secret, second secret")

	for i := range maxTexts {
		write(t, path, fmt.Sprintf("secret %02d", i))
		get(t, v)
		mask.Add(fmt.Sprintf("token %02d", i))
		mask.Add(fmt.Sprintf("token %02d of the second login", i))
	}
	require.Equal(t, uint64(maxTexts+2), v.Generation())
	requireMasked("first secret, second secret, <secret>, <secret>", "first secret, second secret, secret 00, secret 63")
}

func TestMaskKeepsTheNewestTexts(t *testing.T) {
	mask, masks := NewMask(Inline("the key")), NewMask()
	masks.Replace(mask)
	mask.Add("old token")
	mask.Add("dear token")
	for i := range maxTexts - 1 {
		mask.Add(fmt.Sprintf("token %02d", i))
		mask.Add("dear token")
	}
	for _, m := range []interface{ String(string) string }{mask, masks} {
		require.Equal(t, "old token", m.String("old token"))
		require.Equal(t, "<secret> <secret> <secret> <secret>", m.String("the key dear token token 00 token 62"))
	}
}

func TestMasksHideWhatTheirMembersHide(t *testing.T) {
	const everything = "key of one, key of two, shared key, token one, token two, late token"
	one, two := NewMask(Inline("key of one"), Inline("shared key")), NewMask(Inline("key of two"), Inline("shared key"))
	one.Add("token one")
	masks := NewMask()
	require.Equal(t, everything, masks.String(everything))

	masks.Replace(one, nil, two, one)
	two.Add("token two")
	require.Equal(t, "<secret>, <secret>, <secret>, <secret>, <secret>, late token", masks.String(everything))

	masks.Replace(two)
	one.Add("late token")
	require.Equal(t, "key of one, <secret>, <secret>, token one, <secret>, late token", masks.String(everything))

	masks.Replace(one, two)
	require.Equal(t, "<secret>, <secret>, <secret>, <secret>, <secret>, <secret>", masks.String(everything))
	require.Equal(t, "<secret>, key of two, <secret>, <secret>, token two, <secret>", one.String(everything), "a mask hides only its own")

	masks.Replace()
	require.Equal(t, everything, masks.String(everything))
}

func TestMasksAreNeverShown(t *testing.T) {
	mask, masks := NewMask(Inline(text)), NewMask()
	mask.Add(text + " token")
	masks.Replace(mask)
	copied := reflect.ValueOf(mask).Elem().Interface()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, v := range []any{mask, masks, copied} {
			require.Equal(t, "<secret>", fmt.Sprintf(verb, v), "%s of %T", verb, v)
		}
		require.NotContains(t, fmt.Sprintf(verb, struct{ a, b any }{mask, masks}), "p4ss", verb)
	}
	asJSON, err := json.Marshal([]any{mask, masks, copied})
	require.NoError(t, err)
	require.JSONEq(t, `["<secret>", "<secret>", "<secret>"]`, string(asJSON))
}

// TestIndexFindsWhatASearchFinds compares the index, after any additions and
// removals, with a search for each pattern.
func TestIndexFindsWhatASearchFinds(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 0))
		word := func(most int) string {
			b := make([]byte, 4+random.IntN(most))
			for i := range b {
				b[i] = "ab"[random.IntN(2)]
			}
			return string(b)
		}
		x := newIndex()
		added := map[pattern]int{}
		for range 300 {
			p := pattern{word(8), random.IntN(2) == 0, random.IntN(2) == 0}
			if random.IntN(3) > 0 {
				added[p]++
				x.count([]pattern{p}, 1)
			} else if added[p] > 0 {
				added[p]--
				x.count([]pattern{p}, -1)
			}
		}
		s := word(40) + "-" + word(40)
		type span struct{ start, end int }
		var found []span
		for p, n := range added {
			for i := range s {
				if n > 0 && strings.HasPrefix(s[i:], p.text) {
					start, end := p.at(s, i)
					found = append(found, span{start, end})
				}
			}
		}
		slices.SortFunc(found, func(a, b span) int { return cmp.Compare(a.start, b.start) })
		want, done := "", 0
		for _, f := range found {
			if f.start >= done {
				want += s[done:f.start] + hidden
			}
			done = max(done, f.end)
		}
		require.Equal(t, want+s[done:], x.mask(s), "seed %d", seed)
	}
}

// cost returns the least of several CPU times of do. A busy machine does not change
// it much.
func cost(t *testing.T, do func()) time.Duration {
	t.Helper()
	used := func() time.Duration {
		var usage syscall.Rusage
		require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
		return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	least := time.Hour
	for range 4 {
		start := used()
		do()
		least = min(least, used()-start)
	}
	return least
}

// secrets returns n masks, with tokens that all start the same, as JWTs do.
func secrets(n int) []*Mask {
	masks := make([]*Mask, n)
	for i := range masks {
		masks[i] = NewMask(Inline(fmt.Sprintf("api-key-%d-%[1]x", i)))
		masks[i].Add(fmt.Sprintf("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.%d", i))
	}
	return masks
}

// A quadratic load would cost 256 times as much for 16 times the accounts, and a
// search that looks at each account 2 000 times as much for 2 000 of them.
func TestCostIsLinear(t *testing.T) {
	load := func(n int) func() {
		return func() {
			masks := NewMask()
			all := secrets(n)
			masks.Replace(all...)
			for _, m := range all {
				m.Add("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.token")
			}
		}
	}
	require.Less(t, cost(t, load(800)), 80*cost(t, load(50)), "loading accounts")

	one, many := NewMask(), NewMask()
	one.Replace(secrets(1)...)
	many.Replace(secrets(2000)...)
	text := strings.Repeat("a line of a log with a token eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.none ", 1000)
	search := func(m *Mask) func() { return func() { require.Equal(t, text, m.String(text)) } }
	require.Less(t, cost(t, search(many)), 100*cost(t, search(one)), "masking a text")
}

func FuzzMask(f *testing.F) {
	f.Add("user:", "s3cr3t", "")
	f.Add("", "a/b+c", "\n")
	f.Add("aba", "abab", "aba")
	f.Add("", "\xff\xfe\xfd\xfc", "\xff")
	quote := func(s string) string { return fmt.Sprintf("%q", s) }
	asJSON := func(s string) string {
		encoded, _ := json.Marshal(s)
		return string(encoded)
	}
	plain := func(s string) string { return s }
	f.Fuzz(func(t *testing.T, before, secret, after string) {
		secret = Trim(secret)
		if utf8.RuneCountInString(secret) < minLength || strings.ContainsAny(secret, "<>") || strings.Contains(hidden, secret) {
			t.Skip()
		}
		mask := NewMask(Inline(secret))
		for _, encode := range []func(string) string{plain, url.QueryEscape, url.PathEscape, quote, asJSON} {
			encoded := strings.Trim(encode(secret), `"`)
			masked := mask.String(before + encode(secret) + after)
			if !strings.Contains(masked, hidden) || strings.Contains(masked, secret) || len(encoded) >= minLength && strings.Contains(masked, encoded) {
				t.Fatalf("%q is in %q", secret, masked)
			}
			if masked := mask.String(quoteJSON(encode(secret))); !strings.Contains(masked, hidden) {
				t.Fatalf("%q is in the log line %q", secret, masked)
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

func BenchmarkMasks(b *testing.B) {
	line := (strings.Repeat("ts=2026-01-02T03:04:05Z caller=cache.go:123 level=info provider=8x8 account=messaging ", 3))[:200]
	for _, n := range []int{1, 10_000} {
		masks := NewMask()
		masks.Replace(secrets(n)...)
		b.Run(fmt.Sprintf("%d accounts", n), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(line)))
			for b.Loop() {
				_ = masks.String(line)
			}
		})
	}
}

func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		NewMask().Replace(secrets(20_000)...)
	}
}

func BenchmarkAddToken(b *testing.B) {
	all := secrets(10_000)
	NewMask().Replace(all...)
	n := 0
	for b.Loop() {
		n++
		all[n%len(all)].Add(fmt.Sprintf("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.of.%d", n))
	}
}
