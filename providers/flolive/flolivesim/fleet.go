package flolivesim

import (
	"fmt"
	"strconv"
	"time"
)

// Generated are many subscribers that are worked out when they are asked for.
// It needs no memory of its own; make it with [Fleet].
type Generated struct {
	n    int
	seed uint64
}

// Fleet returns n subscribers, at most a hundred million. The same seed gives
// the same ones. Each has one plan or two, one with balances at least. Balances
// fall with time and are renewed after 4 to 11 minutes, a month in small; they
// depend on the clock and the subscriber alone.
func Fleet(n int, seed uint64) Generated {
	return Generated{n: n, seed: seed}
}

// Len returns how many there are.
func (g Generated) Len() int { return g.n }

// numbering makes identifiers of one type: a prefix, a running number of some
// digits that starts at a place of the seed's choice, and perhaps a check digit.
type numbering struct {
	prefix string
	digits int
	first  uint64 // more than the greatest first number
	salt   int    // makes the first numbers of two types unlike
	check  bool
}

// Numbers run on within a fleet, as a batch of SIM cards does, which makes
// finding one by its number a subtraction.
var numberings = map[string]numbering{
	"iccid":  {prefix: "894450", digits: 12, first: 9e11, salt: 0, check: true},
	"imsi":   {prefix: "23450", digits: 10, first: 9e9, salt: 1},
	"msisdn": {prefix: "447", digits: 9, first: 9e8, salt: 2},
	"imei":   {prefix: "35", digits: 12, first: 9e11, salt: 3, check: true},
}

// Find returns the index of the subscriber with an identifier.
func (g Generated) Find(kind, value string) (i int, found bool) {
	numbers, ok := numberings[kind]
	if !ok || len(value) < len(numbers.prefix)+numbers.digits {
		return 0, false
	}
	running, err := strconv.ParseUint(value[len(numbers.prefix):len(numbers.prefix)+numbers.digits], 10, 64)
	first := g.first(kind)
	if err != nil || running < first || running-first >= uint64(g.n) {
		return 0, false
	}
	i = int(running - first)
	return i, g.identifier(kind, i) == value && (kind != "imei" || g.hasIMEI(i))
}

func (g Generated) first(kind string) uint64 {
	numbers := numberings[kind]
	return g.random(numbers.salt, 1) % numbers.first
}

func (g Generated) identifier(kind string, i int) string {
	numbers := numberings[kind]
	id := fmt.Sprintf("%s%0*d", numbers.prefix, numbers.digits, g.first(kind)+uint64(i))
	if numbers.check {
		id += luhn(id)
	}
	return id
}

// hasIMEI tells whether the device of a subscriber is known; that of one in
// four is not, the field being optional.
func (g Generated) hasIMEI(i int) bool {
	return g.random(i, 2)%4 > 0
}

// luhn returns the check digit of a number, as ICCIDs and IMEIs have it.
func luhn(digits string) string {
	sum := 0
	for i := range len(digits) {
		d := int(digits[len(digits)-1-i] - '0')
		if i%2 == 0 {
			d *= 2
		}
		sum += d/10 + d%10
	}
	return strconv.Itoa((10 - sum%10) % 10)
}

// At returns one subscriber as it is at a moment.
func (g Generated) At(i int, now time.Time) Subscriber {
	subscriber := Subscriber{
		ID:     g.uuid(i, 100),
		ICCID:  g.identifier("iccid", i),
		Pairs:  []Pair{{IMSI: g.identifier("imsi", i), MSISDN: g.identifier("msisdn", i)}},
		Status: "ACTIVE",
		Offers: g.offers(i, now),
	}
	if g.hasIMEI(i) {
		subscriber.IMEI = g.identifier("imei", i)
	}
	switch chance := g.random(i, 3) % 100; {
	case chance < 2:
		subscriber.Status = "TERMINATED"
	case chance < 5:
		subscriber.Status = "INACTIVE"
	case chance < 10:
		subscriber.Status = "SUSPEND"
	}
	return subscriber
}

// allowance is what a plan gives a month, and with how many decimals the rest
// of it is told.
type allowance struct {
	unit     string
	amount   float64
	decimals int
}

var (
	dataAllowances = []allowance{
		{"KB", 512_000, 1}, {"KB", 51_200, 1}, {"MB", 500, 2}, {"MB", 2_048, 2}, {"MB", 100, 2}, {"GB", 5, 3}, {"GB", 50, 3},
	}
	moneyAllowances = []allowance{{"USD", 25, 2}, {"EUR", 20, 2}, {"GBP", 10, 2}}
	messages        = allowance{"SMS", 250, 0}
	minutes         = allowance{"MINUTES", 300, 1} // a unit that no documentation names
)

func (g Generated) offers(i int, now time.Time) []Offer {
	plan := g.random(i, 4)
	data := dataAllowances[plan>>8%uint64(len(dataAllowances))]
	money := moneyAllowances[plan>>16%uint64(len(moneyAllowances))]

	usage := Offer{Name: strconv.FormatFloat(data.amount, 'f', -1, 64) + " " + data.unit, Type: "USAGE", Cost: "4.5", Currency: "EUR"}
	usage.Balances = []Balance{g.balance(i, 0, data, now)}
	switch plan >> 24 % 20 {
	case 0, 1, 2, 3:
		usage.Balances = append(usage.Balances, g.balance(i, 1, messages, now))
	case 4:
		usage.Balances = append(usage.Balances, g.balance(i, 1, minutes, now))
	}
	credit := Offer{Name: "Prepaid " + money.unit, Type: "MONEY", Balances: []Balance{g.balance(i, 2, money, now)}}
	rate := Offer{Name: "Pay as you go", Type: "RATE", Cost: "0.01", Currency: "USD"}

	var offers []Offer
	switch plan % 20 {
	case 0, 1, 2:
		offers = []Offer{credit}
	case 3, 4:
		offers = []Offer{credit, rate}
	case 5, 6:
		offers = []Offer{usage, credit}
	case 7, 8:
		offers = []Offer{usage, rate}
	default:
		offers = []Offer{usage}
	}
	for k := range offers {
		offers[k].ID = g.uuid(i, 200+k)
	}
	return offers
}

func (g Generated) balance(i, k int, a allowance, now time.Time) Balance {
	how := g.random(i, 300+k)
	period := time.Duration(240+how%420) * time.Second
	// Each subscriber's month begins at another time.
	since := now.Add(time.Duration(how >> 16 % uint64(period)))
	part := float64(since.UnixNano()%int64(period)) / float64(period)
	// Some use half of what they have, some all of it before the month ends.
	left := max(0, a.amount*(1-part*(0.5+float64(how>>8%70)/100)))
	return Balance{ID: g.uuid(i, 400+k), Unit: a.unit, Value: strconv.FormatFloat(left, 'f', a.decimals, 64)}
}

// random returns a number for a subscriber and a purpose, by the finalizer of
// SplitMix64, which turns neighbouring inputs into unlike outputs.
func (g Generated) random(i, purpose int) uint64 {
	z := g.seed + uint64(i)*0x9e3779b97f4a7c15 + uint64(purpose)*0xd1b54a32d192ed03
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// uuid returns a version 4 UUID for a subscriber and a purpose.
func (g Generated) uuid(i, purpose int) string {
	high, low := g.random(i, purpose), g.random(i, purpose+1000)
	return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", high>>32, high>>16&0xffff, high&0xfff, low>>48&0x3fff|0x8000, low&0xffffffffffff)
}
