package kit_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/kit"
)

type drops = map[providers.DropReason]int

var sg = providers.Price{
	SubAccount: "s", Country: "SG", MCC: "525", MNC: "01", Operator: "o",
	NumberType: "t", Direction: providers.Outbound, Amount: 0.5, Currency: "SGD",
}

func TestPriceSet(t *testing.T) {
	require.Equal(t, providers.Reading{}, kit.NewPriceSet(5).Reading())

	// Every label makes a series of its own; the amount does not.
	var all []providers.Price
	for _, change := range []func(p *providers.Price){
		func(*providers.Price) {},
		func(p *providers.Price) { p.SubAccount = "x" },
		func(p *providers.Price) { p.Country = "x" },
		func(p *providers.Price) { p.MCC = "x" },
		func(p *providers.Price) { p.MNC = "x" },
		func(p *providers.Price) { p.Operator = "x" },
		func(p *providers.Price) { p.NumberType = "x" },
		func(p *providers.Price) { p.Direction = providers.Inbound },
		func(p *providers.Price) { p.Currency = "x" },
	} {
		p := sg
		change(&p)
		all = append(all, p)
	}
	set := kit.NewPriceSet(len(all))
	for _, p := range all {
		set.Add(p, true)
		p.Amount++
		set.Add(p, true)
	}
	extra := sg
	extra.Operator = "another"
	set.Add(extra, true)
	set.Add(extra, true)
	set.Add(sg, true)
	for range 3 {
		set.Add(sg, false)
	}
	require.Equal(t, providers.Reading{Prices: all, Dropped: drops{
		providers.DropDuplicate: len(all) + 1, providers.DropMaxSeries: 2, providers.DropIncomplete: 3,
	}}, set.Reading())
}

// TestPriceSetLabels holds that the identity of a price is what is shown of it.
func TestPriceSetLabels(t *testing.T) {
	long := strings.Repeat("é", 200)
	set := kit.NewPriceSet(10)
	for _, operator := range []string{"a\nb", "a b", long, long + "x", "\xff"} {
		p := sg
		p.Operator = operator
		set.Add(p, true)
	}
	reading := set.Reading()
	var operators []string
	for _, p := range reading.Prices {
		operators = append(operators, p.Operator)
	}
	require.Equal(t, []string{"a b", long[:256], "\ufffd"}, operators)
	require.Equal(t, drops{providers.DropDuplicate: 2}, reading.Dropped)
}

func TestPriceSetAnswer(t *testing.T) {
	set := kit.NewPriceSet(1)
	require.NoError(t, set.Answer(nil, func() error { return nil }), "an empty list")
	require.NoError(t, set.Answer(nil, func() error { set.Add(sg, false); set.Add(sg, true); return nil }))
	require.NoError(t, set.Answer(nil, func() error { set.Add(sg, false); set.Add(sg, true); return nil }), "a duplicate is complete")
	require.EqualError(t, set.Answer(nil, func() error { set.Add(sg, false); set.Add(sg, false); return nil }),
		"none of its prices can be used: 2 lack a part or have one of a wrong type")
	broken := errors.New("broken")
	require.Equal(t, broken, set.Answer(nil, func() error { set.Add(sg, false); set.Add(sg, false); return broken }))

	us := sg
	us.Country = "US"
	asked := func(p providers.Price) bool { return p.Country == "SG" }
	require.NoError(t, set.Answer(asked, func() error { return nil }), "an empty list")
	require.NoError(t, set.Answer(asked, func() error { set.Add(us, true); set.Add(sg, true); return nil }))
	require.EqualError(t, set.Answer(asked, func() error { set.Add(us, true); set.Add(us, true); set.Add(sg, false); return nil }),
		"none of its 2 prices was asked for")
	require.NoError(t, set.Answer(nil, func() error { set.Add(us, true); return nil }), "the filter is that of one answer")
}

// TestPriceSetAgainstModel adds random prices and compares with a map.
func TestPriceSetAgainstModel(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 0))
		most := 1 + r.IntN(30)
		set, want := kit.NewPriceSet(most), providers.Reading{}
		dropped, seen := drops{}, map[providers.Price]bool{}
		for range r.IntN(100) {
			p := providers.Price{SubAccount: fmt.Sprint(r.IntN(3)), MCC: fmt.Sprint(r.IntN(3)), MNC: fmt.Sprint(r.IntN(3)), Amount: r.Float64()}
			set.Add(p, true)
			label := p
			label.Amount = 0
			switch {
			case seen[label]:
				dropped[providers.DropDuplicate]++
			case len(want.Prices) == most:
				dropped[providers.DropMaxSeries]++
			default:
				seen[label] = true
				want.Prices = append(want.Prices, p)
			}
		}
		if len(dropped) > 0 {
			want.Dropped = dropped
		}
		require.Equal(t, want, set.Reading(), "seed %d", seed)
	}
}

// TestPriceSetMemory adds one price for each of many networks, with a name as long
// as a body: the name must not be stored with each of them, nor at its full length.
func TestPriceSetMemory(t *testing.T) {
	const rows = 20_000
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	set := kit.NewPriceSet(rows)
	for i := range rows {
		p := sg
		p.MNC = fmt.Sprint(i)
		p.Operator = strings.Repeat("x", 1<<12) + p.MNC[:1]
		set.Add(p, true)
	}
	reading := set.Reading()
	require.Equal(t, rows, len(reading.Prices)+reading.Dropped[providers.DropDuplicate])
	require.Less(t, heap()-before, uint64(rows*400))
	runtime.KeepAlive(reading)
}
