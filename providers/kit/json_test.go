package kit_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/providers/kit"
)

// leaves has one field of each type of leaf, for the same value.
type leaves struct {
	Text   kit.Text         `json:"text"`
	Digits kit.Digits       `json:"digits"`
	Number kit.Number       `json:"number"`
	Quoted kit.QuotedNumber `json:"quoted"`
	True   kit.True         `json:"true"`
	Raw    kit.Raw          `json:"raw"`
}

func TestLeaves(t *testing.T) {
	text := func(s string) kit.Text { return kit.Text{Value: s, Present: true, OK: true} }
	number := func(f float64) kit.Number { return kit.Number{Value: f, Present: true, OK: true} }
	there := kit.Text{Present: true}
	noText, noNumber := kit.Digits{Text: there}, kit.Number{Present: true}
	for value, want := range map[string]leaves{
		`null`:                      {},
		`"a b"`:                     {Text: text("a b"), Digits: kit.Digits{Text: text("a b")}, Number: noNumber, Quoted: kit.QuotedNumber{Number: noNumber}},
		`""`:                        {Text: text(""), Digits: kit.Digits{Text: text("")}, Number: noNumber, Quoted: kit.QuotedNumber{Number: noNumber}},
		`"\u0041\n\ud800"`:          {Text: text("A\n\ufffd"), Digits: kit.Digits{Text: text("A\n\ufffd")}, Number: noNumber, Quoted: kit.QuotedNumber{Number: noNumber}},
		"\"\xff\"":                  {Text: text("\ufffd"), Digits: kit.Digits{Text: text("\ufffd")}, Number: noNumber, Quoted: kit.QuotedNumber{Number: noNumber}},
		`"007"`:                     {Text: text("007"), Digits: kit.Digits{Text: text("007")}, Number: noNumber, Quoted: kit.QuotedNumber{Number: noNumber}},
		`" -1.5e1 "`:                {Text: text(" -1.5e1 "), Digits: kit.Digits{Text: text(" -1.5e1 ")}, Number: noNumber, Quoted: kit.QuotedNumber{Number: number(-15)}},
		`"0x10"`:                    {Text: text("0x10"), Digits: kit.Digits{Text: text("0x10")}, Number: noNumber, Quoted: kit.QuotedNumber{Number: noNumber}},
		`"NaN"`:                     {Text: text("NaN"), Digits: kit.Digits{Text: text("NaN")}, Number: noNumber, Quoted: kit.QuotedNumber{Number: noNumber}},
		`"+1"`:                      {Text: text("+1"), Digits: kit.Digits{Text: text("+1")}, Number: noNumber, Quoted: kit.QuotedNumber{Number: noNumber}},
		`"1 2"`:                     {Text: text("1 2"), Digits: kit.Digits{Text: text("1 2")}, Number: noNumber, Quoted: kit.QuotedNumber{Number: noNumber}},
		`"null"`:                    {Text: text("null"), Digits: kit.Digits{Text: text("null")}, Number: noNumber, Quoted: kit.QuotedNumber{Number: noNumber}},
		`8944501234567890123`:       {Text: there, Digits: kit.Digits{Text: text("8944501234567890123")}, Number: number(8944501234567890123), Quoted: kit.QuotedNumber{Number: number(8944501234567890123)}},
		`-5`:                        {Text: there, Digits: noText, Number: number(-5), Quoted: kit.QuotedNumber{Number: number(-5)}},
		`149309.7985931`:            {Text: there, Digits: noText, Number: number(149309.7985931), Quoted: kit.QuotedNumber{Number: number(149309.7985931)}},
		`1e400`:                     {Text: there, Digits: noText, Number: noNumber, Quoted: kit.QuotedNumber{Number: noNumber}},
		`"1e400"`:                   {Text: text("1e400"), Digits: kit.Digits{Text: text("1e400")}, Number: noNumber, Quoted: kit.QuotedNumber{Number: noNumber}},
		`true`:                      {Text: there, Digits: noText, Number: noNumber, Quoted: kit.QuotedNumber{Number: noNumber}, True: true},
		`false`:                     {Text: there, Digits: noText, Number: noNumber, Quoted: kit.QuotedNumber{Number: noNumber}},
		`[1, "]", {"a":"\\\"}"}]`:   {Text: there, Digits: noText, Number: noNumber, Quoted: kit.QuotedNumber{Number: noNumber}},
		`{"a": {"b": [ ], "}": 1}}`: {Text: there, Digits: noText, Number: noNumber, Quoted: kit.QuotedNumber{Number: noNumber}},
	} {
		want.Raw = kit.Raw(value)
		body := strings.ReplaceAll(` { "text": V, "digits":V,"number" :V ,"quoted": V,"true":V,"raw": V } `, "V", value)
		var got leaves
		require.NoError(t, kit.Unmarshal([]byte(body), &got), value)
		require.Equal(t, want, got, value)

		var std leaves
		require.NoError(t, json.Unmarshal([]byte(body), &std), value)
		require.Equal(t, want, std, "the leaves are the same under encoding/json: %s", value)
	}
}

func TestCount(t *testing.T) {
	for value, want := range map[string]int{
		"0": 0, "-0": 0, "10": 10, "1e3": 1000, "2.0": 2, "2147483647": 2147483647,
		"-1": -1, "0.5": -1, "2147483648": -1, "1e400": -1, `"1"`: -1, "null": -1,
	} {
		var n kit.Number
		require.NoError(t, n.UnmarshalJSON([]byte(value)))
		count, ok := n.Count()
		require.Equal(t, want >= 0, ok, value)
		require.Equal(t, max(want, 0), count, value)
	}
}

func TestElements(t *testing.T) {
	for list, want := range map[string][]string{
		`[]`: nil, `[ ]`: nil, `[1]`: {"1"}, `[ 1 , "a,]" ,[2 , 3],{"x":[]} , null ]`: {"1", `"a,]"`, "[2 , 3]", `{"x":[]}`, "null"},
	} {
		elements, ok := kit.Raw(list).Elements()
		require.True(t, ok, list)
		var got []string
		for e := range elements {
			got = append(got, string(e))
		}
		require.Equal(t, want, got, list)
	}
	for _, other := range []string{"", "null", `{"a":[]}`, `"[]"`, "1"} {
		elements, ok := kit.Raw(other).Elements()
		require.False(t, ok, other)
		for range elements {
			require.Fail(t, "an element", other)
		}
		require.Equal(t, other == "" || other == "null", kit.Raw(other).Null(), other)
	}
}

type account struct {
	Balance kit.Number      `json:"balance"`
	Holder  holder          `json:"holder"`
	Rows    []holder        `json:"rows"`
	Copy    json.RawMessage `json:"copy"`
	Ignored int
}

type holder struct {
	Name kit.Text `json:"name"`
	ID   kit.Text `json:"id,omitempty"`
}

// TestExactKeyWins holds that a key which differs in case changes nothing,
// wherever it stands.
func TestExactKeyWins(t *testing.T) {
	named := func(s string) kit.Text { return kit.Text{Value: s, Present: true, OK: true} }
	five := kit.Number{Value: 5, Present: true, OK: true}
	for body, want := range map[string]account{
		`{"balance":5,"BALANCE":9}`:                                       {Balance: five},
		`{"BALANCE":9,"balance":5}`:                                       {Balance: five},
		`{"Balance":9,"balance":5,"BALANCE":null,"\u0062alance":5}`:       {Balance: five},
		`{"balance":5,"BALANC\u0045":9}`:                                  {Balance: five},
		`{"BALANCE":9,"Balance":5}`:                                       {Balance: five},
		`{"balance":9,"balance":5}`:                                       {Balance: five},
		`{"balance":null,"BALANCE":9}`:                                    {},
		`{"BALANCE":9,"balance":null}`:                                    {},
		`{"balances":9}`:                                                  {},
		`{"holder":{"NAME":"x","name":"a"},"Holder":{"name":"y"}}`:        {Holder: holder{Name: named("a")}},
		`{"Holder":{"name":"y"},"holder":{"name":"a","NAME":"x"}}`:        {Holder: holder{Name: named("a")}},
		`{"holder":{"id":"old","name":"old"},"holder":{"Name":"a"}}`:      {Holder: holder{Name: named("a")}},
		`{"rows":[{"ID":"x","id":"a"},{"id":"b","iD":"x"},{"Id":"c"},5]}`: {Rows: []holder{{ID: named("a")}, {ID: named("b")}, {ID: named("c")}, {}}},
		`{"rows":[{"id":"a"}],"rows":[]}`:                                 {Rows: []holder{}},
		`{"rows":{},"holder":[],"copy":[1]}`:                              {Copy: json.RawMessage("[1]")},
		`{"Ignored":1}`:                                                   {},
		`{}`:                                                              {},
	} {
		var got account
		require.NoError(t, kit.Unmarshal([]byte(body), &got), body)
		require.Equal(t, want, got, body)
	}

	var list []holder
	require.NoError(t, kit.Unmarshal([]byte(` [{"id":"a"}] `), &list))
	require.Equal(t, []holder{{ID: named("a")}}, list)
}

func TestUnmarshalErrors(t *testing.T) {
	for body, want := range map[string]string{
		``:                          "unexpected end of JSON input",
		`{"balance":1`:              "unexpected end of JSON input",
		`{"balance":1}}`:            "invalid character '}' after top-level value",
		`{} {}`:                     "invalid character '{' after top-level value",
		`{"balance":NaN}`:           "invalid character 'N' looking for beginning of value",
		`{"balance":01}`:            "invalid character '1' after object key:value pair",
		`<html>`:                    "invalid character '<' looking for beginning of value",
		strings.Repeat("[", 20_000): "invalid character '[' exceeded max depth",
		`null`:                      "null instead of an object",
		`[]`:                        "a list instead of an object",
		`"{}"`:                      "a string instead of an object",
		`-1`:                        "a number instead of an object",
		`true`:                      "a boolean instead of an object",
	} {
		var got account
		require.EqualError(t, kit.Unmarshal([]byte(body), &got), want, body[:min(len(body), 40)])
		require.Zero(t, got)
	}
	var list []holder
	require.EqualError(t, kit.Unmarshal([]byte(`{}`), &list), "an object instead of a list")
	require.Panics(t, func() {
		var wrong struct {
			S string `json:"s"`
		}
		_ = kit.Unmarshal([]byte(`{"s":""}`), &wrong)
	})
}

// TestUnmarshalAgrees compares with encoding/json, which takes the last of several
// keys, on objects in which the exact key is the last one.
func TestUnmarshalAgrees(t *testing.T) {
	values := []string{`1`, `"x"`, `null`, `-2.5e3`, `[]`, `{}`, `[{"name":"n"},{"ID":"i"}]`, `{"name":"a\"b","id":"c"}`, `"}"`, `true`, ` [ [ "]" ] , 2 ] `}
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 0))
		var members []string
		for _, key := range []string{"balance", "holder", "rows", "copy", "other"} {
			for range r.IntN(3) {
				members = append(members, fmt.Sprintf("%q : %s", strings.ToUpper(key), values[r.IntN(len(values))]))
			}
		}
		r.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
		exact := []string{`"balance":` + values[r.IntN(3)], `"holder":{"name":"h","id":"i"}`, `"rows":[{"name":"h","id":"i"}]`, `"copy":` + strings.TrimSpace(values[r.IntN(len(values))])}
		body := "{" + strings.Join(slices.Concat(members, exact), ",\n") + "}"

		var got, want account
		require.NoError(t, kit.Unmarshal([]byte(body), &got))
		require.NoError(t, json.Unmarshal([]byte("{"+strings.Join(exact, ",")+"}"), &want))
		require.Equal(t, want, got, body)
	}
}

// TestUnmarshalFailsWithItsLeaf: a type of a provider's own may fail, wherever it is.
func TestUnmarshalFailsWithItsLeaf(t *testing.T) {
	type row struct {
		At time.Time `json:"at"`
	}
	var body struct {
		Rows []row `json:"rows"`
	}
	require.NoError(t, kit.Unmarshal([]byte(`{"rows":[{"at":"2020-10-15T03:44:02.25Z"}]}`), &body))
	require.Equal(t, []row{{time.Date(2020, 10, 15, 3, 44, 2, 250_000_000, time.UTC)}}, body.Rows)
	require.ErrorContains(t, kit.Unmarshal([]byte(`{"rows":[{"at":"soon"}]}`), &body), "cannot parse")
}

func TestMembers(t *testing.T) {
	for value, want := range map[string][]string{
		`{"a": 1, "B":{"c":[2]} ,"a":null}`: {"a 1", `B {"c":[2]}`, "a null"},
		" \n{}":                             nil,
		"":                                  nil,
		"[1]":                               nil,
		`"x"`:                               nil,
	} {
		var got []string
		for key, member := range kit.Raw(value).Members() {
			got = append(got, key+" "+string(member))
		}
		require.Equal(t, want, got, value)
	}
	for key := range kit.Raw(`{"a":1,"b":2}`).Members() {
		require.Equal(t, "a", key)
		break
	}
}

// TestUnmarshalIntoAnUnsuitableType: a mistake in a provider shows in its first test.
func TestUnmarshalIntoAnUnsuitableType(t *testing.T) {
	require.PanicsWithValue(t, "kit.Unmarshal cannot set a string", func() {
		_ = kit.Unmarshal([]byte(`{"name":"x"}`), &struct {
			Name string `json:"name"`
		}{})
	})
	require.PanicsWithValue(t, "kit.Unmarshal needs 1 to 64 fields with a json tag in struct { Name kit.Text }", func() {
		_ = kit.Unmarshal([]byte(`{}`), &struct{ Name kit.Text }{})
	})
}

// The standard library gives the same values.
func FuzzDecoder(f *testing.F) {
	f.Add([]byte(` { "a" : [ 1.50 , -2e9 , true , false , null , "x\u00e9\n" , "" ] , "b" : { } , "\u0062" : [ ] } `))
	f.Add([]byte("{\"\xff\xff\":\"\xff\xff\",\"a\":{\"a\":[[],{\"a\":0}]}}"))
	f.Add([]byte(`"\ud800"`))
	f.Add([]byte(`7`))
	f.Fuzz(func(t *testing.T, body []byte) {
		decoder := json.NewDecoder(bytes.NewReader(body))
		decoder.UseNumber()
		var want any
		if !json.Valid(body) || decoder.Decode(&want) != nil {
			t.Skip("not valid")
		}
		var d kit.Decoder
		for range 2 { // the second time with the keys of the first
			require.Equal(t, want, d.Decode(body))
		}
	})
}

func FuzzUnmarshal(f *testing.F) {
	f.Add([]byte(`{"balance":5,"BALANCE":9,"rows":[{"id":"\ud800"}],"copy":{"a":[1,2]}}`))
	f.Add([]byte(` { "balance" : 1e400 , "x" : [ { } ] } `))
	f.Add([]byte(`{"balance":1`))
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		var got account
		err := kit.Unmarshal(body, &got)
		require.Equal(t, before, body)
		if err != nil {
			require.Zero(t, got)
			return
		}
		require.True(t, json.Valid(body))
		require.True(t, got.Copy == nil || json.Valid(got.Copy))
		for _, row := range append(got.Rows, got.Holder) {
			require.True(t, utf8.ValidString(row.ID.Value) && utf8.ValidString(row.Name.Value))
		}
		// The members in reverse order mean the same unless a key is repeated.
		var members map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(body, &members))
		if exact, ok := members["balance"]; ok && bytes.Count(body, []byte(`"balance"`)) == 1 && !bytes.Contains(body, []byte(`\u`)) {
			var want kit.Number
			require.NoError(t, want.UnmarshalJSON(bytes.TrimSpace(exact)))
			require.Equal(t, want, got.Balance)
		}
	})
}

func TestChecks(t *testing.T) {
	for s, want := range map[string]string{"USD": "USD", "usd": "USD", "eUr": "EUR", "": "", "US": "", "USDT": "", "US1": "", "ÜS": "", " USD": "", "K\u212a": ""} {
		code, ok := kit.Currency(s)
		assert.Equal(t, want, code, s)
		assert.Equal(t, want != "", ok, s)
	}
	for s, want := range map[string]string{"SG": "SG", "sg": "SG", "": "", "S": "", "SGP": "", "65": "", "ß": "", "S[": "", "@G": ""} {
		code, ok := kit.Country(s)
		assert.Equal(t, want, code, s)
		assert.Equal(t, want != "", ok, s)
	}
	for s, want := range map[string]bool{"0": true, "00123": true, "": false, "-1": false, "1.0": false, "٣": false} {
		assert.Equal(t, want, kit.IsDigits(s), s)
	}
}

var object = []byte(`{"alpha2Code":"SG","countryName":"Singapore","dialingPrefix":"+65","id":"example","balance":149309.7985931,"holder":{"name":"Western Wireless","id":"310012"},"rows":[{"id":"525","name":"01"},{"id":"525","name":"02"},{"id":"525","name":"07"}]}`)

func BenchmarkUnmarshal(b *testing.B) {
	for name, decode := range map[string]func([]byte, any) error{"kit": kit.Unmarshal, "encoding-json": json.Unmarshal} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(object)))
			for b.Loop() {
				var a account
				if err := decode(object, &a); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
