package eightxeightsim

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"time"
)

// DemoPrices returns a price list as a customer might have it: more than
// two hundred countries, two sub-accounts, and 5 000 to 6 000 prices, all in
// currency.
// "marketing" has outbound and inbound prices, "notifications" only outbound
// ones. Countries, prefixes and country codes are real; operators, network
// codes and prices are made from the seed. The prices move by a few percent
// in the course of a day, in steps of ten minutes.
func DemoPrices(seed uint64, currency string) Prices {
	return func(now time.Time) []SubAccount {
		d := demo{
			rand:     rand.New(rand.NewPCG(seed, 0)), //nolint:gosec // the same at every call is the point
			currency: currency,
			hours:    float64(now.Unix()/600) / 6,
		}
		marketing := SubAccount{ID: "marketing"}
		notifications := SubAccount{ID: "notifications"}
		for _, p := range places() {
			outbound, inbound := d.country(p)
			marketing.Outbound = append(marketing.Outbound, outbound)
			marketing.Inbound = append(marketing.Inbound, inbound)
			notifications.Outbound = append(notifications.Outbound, d.reprice(outbound))
		}
		return []SubAccount{marketing, notifications}
	}
}

// demo makes a price list. It takes the same random numbers in the same order
// at every time, so that only the drift differs.
type demo struct {
	rand     *rand.Rand
	currency string
	hours    float64
}

const (
	lowestPrice  = 0.005
	highestPrice = 0.25
)

func (d demo) country(p place) (outbound, inbound Country) {
	outbound = Country{Alpha2Code: p.alpha2, Name: p.name, DialingPrefix: p.prefix}
	inbound = outbound

	level := 0.008 * math.Exp(3*d.rand.Float64()) // 0.008 to 0.16
	names := []string{"Telecom", "Mobile", "Cellular", "Wireless", "Connect", "Networks"}
	width := 2
	if threeDigitMNC(p.mcc) {
		width = 3
	}
	mnc := 0
	for _, name := range names[:3+d.rand.IntN(len(names)-2)] {
		o := Operator{
			Name:  p.name + " " + name,
			Price: d.price(level * (0.8 + 0.4*d.rand.Float64())),
		}
		for range 1 + d.rand.IntN(4) {
			mnc++
			o.HNI = append(o.HNI, HNI{MCC: p.mcc, MNC: fmt.Sprintf("%0*d", width, mnc)})
		}
		o.ID = number(p.mcc)*1000 + number(o.HNI[0].MNC)
		outbound.Operators = append(outbound.Operators, o)
	}

	types := []string{"longcode", "tollFree", "shortCodeP2P", "shortCodePremium", "shortCodeFTEU"}
	for _, t := range types[:1+d.rand.IntN(len(types))] {
		inbound.NumberTypes = append(inbound.NumberTypes, NumberType{
			Type: t, DefaultPrice: d.price(lowestPrice + 0.03*d.rand.Float64()),
		})
	}
	return outbound, inbound
}

// reprice returns c with other prices, as for another contract.
func (d demo) reprice(c Country) Country {
	operators := make([]Operator, len(c.Operators))
	level := 0.008 * math.Exp(3*d.rand.Float64())
	for i, o := range c.Operators {
		o.Price = d.price(level * (0.8 + 0.4*d.rand.Float64()))
		operators[i] = o
	}
	c.Operators = operators
	return c
}

// price returns the price at the time of d, up to 3 % off.
func (d demo) price(amount float64) *Price {
	phase := 24 * d.rand.Float64()
	amount *= 1 + 0.03*math.Sin(2*math.Pi*(d.hours+phase)/24)
	amount = min(max(amount, lowestPrice), highestPrice)
	return &Price{Amount: decimal(amount), Currency: d.currency}
}

// threeDigitMNC reports whether network codes of the country have three
// digits: North America, the Caribbean and some of Latin America.
func threeDigitMNC(mcc string) bool {
	return strings.HasPrefix(mcc, "3") && mcc != "340" && mcc != "362" && mcc != "363" && mcc != "368" && mcc != "370" && mcc != "372" ||
		mcc == "722" || mcc == "732" || mcc == "708"
}

// WriteSynthetic writes a sound price list of so many outbound rows, in the
// form of the examples, at about 120 bytes per row. It holds nothing of it in
// memory, and every row has a network of its own within its sub-account.
func WriteSynthetic(w io.Writer, rows int) error {
	const (
		perCountry    = 1000             // network codes 000 to 999
		perSubAccount = 100 * perCountry // country codes 200 to 299
	)
	b := bufio.NewWriterSize(w, 32<<10) // keeps the first error until Flush
	emit := func(format string, args ...any) { _, _ = fmt.Fprintf(b, format, args...) }
	list := places()

	emit(`{"subAccounts":[`)
	for sub := 0; sub*perSubAccount < rows; sub++ {
		emit(`%s{"subAccountId":"synthetic-%d","outbound":{"countries":[`, comma(sub), sub)
		left := min(rows-sub*perSubAccount, perSubAccount)
		for country := 0; country*perCountry < left; country++ {
			p := list[country%len(list)]
			emit(`%s{"alpha2Code":%q,"countryName":%q,"dialingPrefix":%q,"operators":[`,
				comma(country), p.alpha2, p.name, p.prefix)
			mcc := 200 + country
			for mnc := range min(left-country*perCountry, perCountry) {
				price := lowestPrice + float64((country*perCountry+mnc)*7919%245_000)/1e6
				emit(`%s{"operatorName":"Operator %d-%03d","operatorId":%d%03d,"hni":[{"mcc":"%d","mnc":"%03d"}],"price":{"amount":%.7f,"currency":"USD"}}`,
					comma(mnc), mcc, mnc, mcc, mnc, mcc, mnc, price)
			}
			emit(`]}`)
			// An unending body must end with its reader.
			if _, err := b.Write(nil); err != nil {
				return err
			}
		}
		emit(`]}}`)
	}
	emit(`]}`)
	return b.Flush()
}

func comma(position int) string {
	if position == 0 {
		return ""
	}
	return ","
}
