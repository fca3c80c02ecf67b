package recipe

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// evaluate returns the outputs of an expression for a JSON text.
func evaluate(t *testing.T, source, body string) ([]any, error) {
	t.Helper()
	p, err := newProgram(source)
	require.NoError(t, err, source)
	input, err := decodeJSON([]byte(body))
	require.NoError(t, err)
	return p.outputs(input, len(body), 10)
}

func TestExpressions(t *testing.T) {
	for _, c := range []struct{ source, body, want string }{
		{`.a.b`, `{"a":{"b":1.10}}`, `[1.10]`},
		{`.a[0], .a[-1]`, `{"a":[1,2,3]}`, `[1,3]`},
		{`.["a b"]`, `{"a b":true}`, `[true]`},
		{`.[] | select(.on) | {amount, wallet: "\(.id)-\(.name)"}`, `[{"on":true,"amount":12345678901234567890.10,"id":1,"name":"x"},{"on":false}]`, `[{"amount":12345678901234567890.10,"wallet":"1-x"}]`},
		{`["x","y"][] as $k | .a | {amount: .[$k], wallet: $k}`, `{"a":{"x":1,"y":"2"}}`, `[{"amount":1,"wallet":"x"},{"amount":"2","wallet":"y"}]`},
		{`to_entries[] | {amount: .value, wallet: .key}`, `{"b":2,"a":1}`, `[{"amount":1,"wallet":"a"},{"amount":2,"wallet":"b"}]`},
		{`capture("^(?<currency>[A-Z]{3}) *(?<amount>-?[0-9.]+)$")`, `"KES 412.5000"`, `[{"amount":"412.5000","currency":"KES"}]`},
		{`split(" ")[1] | gsub("[.]"; "") | sub(","; ".")`, `"00 1.204,55"`, `["1204.55"]`},
		{`if .status != "ok" then .message else empty end`, `{"status":"ok"}`, `null`},
		{`if .a == 1 then "one" elif .a > 1 then "more" else "less" end`, `{"a":2}`, `["more"]`},
		{`.a // "none"`, `{}`, `["none"]`},
		{`.a[]?, (.b | tonumber), (.c | tostring), (.d | type), (.d | length)`, `{"a":1,"b":"1.50","c":2.0,"d":[1]}`, `[1.50,"2.0","array",1]`},
		{`(.a and .b | not), (.a or .b)`, `{"a":true,"b":false}`, `[true,true]`},
		{`has("a"), keys, (.a | startswith("x")), (.a | endswith("x")), (.a | ltrimstr("x")), (.a | rtrimstr("z"))`, `{"a":"xyz"}`, `[true,["a"],true,false,"yz","xy"]`},
		{`map(.x | ascii_upcase | trim) | join(",")`, `[{"x":" a"},{"x":"b "}]`, `["A,B"]`},
		{`test("^a"), ascii_downcase`, `"aB"`, `[true,"ab"]`},
		{`.a, -1, [], {}, null`, `{"a":-0}`, `[-0,-1,[],{},null]`},
	} {
		got, err := evaluate(t, c.source, c.body)
		require.NoError(t, err, c.source)
		text, err := json.Marshal(got)
		require.NoError(t, err)
		require.Equal(t, c.want, string(text), c.source)
	}
}

// An expression that fails says why without the values of the answer.
func TestFailures(t *testing.T) {
	for source, want := range map[string]string{
		`.a.b`:                      "expected an object but got: string",
		`.a[]`:                      "cannot iterate over: string",
		`.a | tonumber`:             "tonumber: the text is not a number",
		`.n | startswith("x")`:      "startswith cannot be applied to: number",
		`.a | capture("^(?<b>x)$")`: "capture: the text does not match",
		`. == .`:                    "a comparison cannot be applied to: object",
		`"\(.)"`:                    `\(…) cannot be applied to: object`,
		`error("not known")`:        "not known",
		`.l | .[.a]`:                "an index",
	} {
		p, err := newProgram(source)
		if err == nil {
			input, decodeErr := decodeJSON([]byte(`{"a":"secret-value","n":5,"l":[]}`))
			require.NoError(t, decodeErr)
			_, err = p.outputs(input, 10, 10)
		}
		require.ErrorContains(t, err, want, source)
		require.NotContains(t, err.Error(), "secret-value")
	}
}

// hostile are expressions that would take time or memory without a bound.
var hostile = map[string]string{
	"doubled texts":          strings.Repeat(`"\(.)\(.)" | `, 60) + ".",
	"doubled lists":          strings.Repeat(`[.[],.[]] | `, 60) + "length",
	"doubled outputs":        strings.Repeat(`(.,.) | `, 100) + "empty",
	"shared lists, compared": strings.Repeat(`[.,.] | `, 100) + ". == .",
	"shared lists, as text":  strings.Repeat(`[.,.] | `, 100) + "tostring",
	"split many times":       `. as $t | [$t | split("")[] | $t | split("")] | length`,
	"replace by long texts":  `gsub(""; "` + strings.Repeat("y", 500) + `") | gsub(""; "` + strings.Repeat("z", 300) + `") | length`,
	"matches many times":     `. as $t | [$t | split("")[] | $t | test("(x+x+)+y")] | length`,
	"joined many times":      `. as $t | [$t | split("")[] | $t | split("") | join($t)] | length`,
	"length many times":      `. as $t | [$t | split("")[] | $t | length] | length`,
	"objects":                strings.Repeat(`[.[]?, {a:.,b:.,c:.,d:.}, .[]?] | `, 25) + "length",
	"errors that are caught": strings.Repeat(`(.a? // [.,.]) | `, 50) + `(.[] | error("x"))? // "y"`,
}

// TestHostileExpressions is about the bounds of one evaluation. An expression may end
// with or without an error, but within them.
func TestHostileExpressions(t *testing.T) {
	for name, source := range hostile {
		t.Run(name, func(t *testing.T) {
			p, err := newProgram(source)
			require.NoError(t, err)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, _ = p.outputs(strings.Repeat("x", 10_000), 10_000, maxOutputs)
			_, _ = p.outputs([]any{"x", "y"}, 9, maxOutputs)
			runtime.ReadMemStats(&after)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(300<<20), "bytes, garbage included")
		})
	}
}

// A hostile answer cannot make an ordinary expression exceed its bounds.
func TestHostileAnswers(t *testing.T) {
	for name, body := range map[string]string{
		"long list":  "[" + strings.Repeat(`{"amount":1},`, 100_000) + `{"amount":1}]`,
		"deep":       strings.Repeat(`{"a":`, 9000) + "1" + strings.Repeat("}", 9000),
		"long text":  `{"amount":"` + strings.Repeat("9", 1<<20) + `"}`,
		"many keys":  "{" + strings.Repeat(`"k`+"\\u0041"+`":1,`, 50_000) + `"amount":1e999999999}`,
		"huge power": `{"amount":1e-999999999}`,
	} {
		input, err := decodeJSON([]byte(body))
		require.NoError(t, err, name)
		p, err := newProgram(`(.[]?, .) | {amount: .amount?}`)
		require.NoError(t, err)
		outputs, err := p.outputs(input, len(body), maxWallets)
		if err != nil {
			continue
		}
		for _, output := range outputs {
			_, err := amount(output.(map[string]any)["amount"], 10_000)
			require.Error(t, err, name)
		}
	}
}

func TestAmounts(t *testing.T) {
	for _, c := range []struct {
		value  any
		divide int64
		want   float64
		err    string
	}{
		{json.Number("18.42"), 1, 18.42, ""},
		{" -7.250 ", 1, -7.25, ""},
		{"4251000", 10_000, 425.1, ""},
		{"0.3", 3, 0.1, ""}, // 0.3/3 in binary is 0.09999999999999999
		{json.Number("123456789012345678"), 1000, 123456789012345.678, ""},
		{json.Number("1e2"), 100, 1, ""},
		{json.Number("0"), 1, 0, ""},
		{nil, 1, 0, "is null or missing"},
		{"", 1, 0, "is a text that is not a number"},
		{"NaN", 1, 0, "is a text that is not a number"},
		{"1,204.55", 1, 0, "is a text that is not a number"},
		{"0x10", 1, 0, "is a text that is not a number"},
		{"1e400", 1, 0, "is a number out of range"},
		{json.Number("1e999999999"), 10, 0, "is a text that is not a number"},
		{true, 1, 0, "is a boolean, not a number"},
		{map[string]any{}, 1, 0, "is an object, not a number"},
		{[]any{}, 1, 0, "is a list, not a number"},
		{5, 1, 0, "is a number of the expression, not one of the answer"},
	} {
		got, err := amount(c.value, c.divide)
		if c.err != "" {
			require.EqualError(t, err, c.err, fmt.Sprint(c.value))
			continue
		}
		require.NoError(t, err)
		require.Equal(t, c.want, got)
	}
}

func TestXML(t *testing.T) {
	for text, want := range map[string]string{
		`<a>1</a>`: `{"a":"1"}`,
		`<a><b>1</b><b>2</b><b/><c x="y">t</c></a>`:     `{"a":{"b":["1","2",""],"c":{"#text":"t","@x":"y"}}}`,
		`<?xml version="1.0"?><n:a xmlns:n="u"> </n:a>`: `{"a":""}`,
	} {
		got, err := decodeXML([]byte(text))
		require.NoError(t, err, text)
		encoded, err := json.Marshal(got)
		require.NoError(t, err)
		require.Equal(t, want, string(encoded))
	}
	for _, text := range []string{
		"", "text", "<a>", "<a></b>", "<a/><b/>", "<a/>text", `<!DOCTYPE a [<!ENTITY e "x">]><a>&e;</a>`, "<a>&e;</a>",
		strings.Repeat("<a>", 1000) + strings.Repeat("</a>", 1000), `<?xml version="1.0" encoding="UTF-16"?><a/>`,
	} {
		_, err := decodeXML([]byte(text))
		require.Error(t, err, text)
	}
}

func FuzzExpression(f *testing.F) {
	for _, source := range hostile {
		f.Add(source, `{"a":[1,"2"]}`)
	}
	f.Add(`.[] as $x | {amount: $x.a, "b": .["c"], d: [.e, -1, "\(.f)"]} | if .g then .h elif .i then .j else empty end`, `[{}]`)
	f.Fuzz(func(t *testing.T, source, body string) {
		p, err := newProgram(source)
		input, decodeErr := decodeJSON([]byte(body))
		if err != nil || decodeErr != nil {
			return
		}
		outputs, err := p.outputs(input, len(body), 100)
		if err == nil {
			require.LessOrEqual(t, len(outputs), 100)
		}
	})
}

func FuzzBody(f *testing.F) {
	for _, body := range []string{`{"a":1.50}`, "<a b='c'>d<e/></a>", "OK 1", "", "\xff", `[[[[1e999]]]]`} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, decode := range formats {
			if v, err := decode(body); err == nil {
				_, _ = amount(v, 100)
				_, _ = moment(v, "")
			}
		}
	})
}
