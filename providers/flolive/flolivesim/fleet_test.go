package flolivesim

import (
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var midday = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestFleetIdentifiers(t *testing.T) {
	patterns := map[string]*regexp.Regexp{
		"iccid":  regexp.MustCompile(`^8944\d{15}$`),
		"imsi":   regexp.MustCompile(`^234\d{12}$`),
		"msisdn": regexp.MustCompile(`^447\d{9}$`),
		"imei":   regexp.MustCompile(`^35\d{13}$`),
	}
	uuid := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	for _, seed := range []uint64{0, 1, 1 << 63} {
		fleet := Fleet(300, seed)
		ids := map[string]bool{}
		for i := range fleet.Len() {
			subscriber := fleet.At(i, midday)
			identifiers := map[string]string{
				"iccid": subscriber.ICCID, "imsi": subscriber.Pairs[0].IMSI,
				"msisdn": subscriber.Pairs[0].MSISDN, "imei": subscriber.IMEI,
			}
			for kind, value := range identifiers {
				if value == "" {
					continue
				}
				require.Regexp(t, patterns[kind], value)
				found, ok := fleet.Find(kind, value)
				require.True(t, ok)
				require.Equal(t, i, found)
			}
			for _, id := range idsOf(subscriber) {
				require.Regexp(t, uuid, id)
				require.False(t, ids[id], "an id twice")
				ids[id] = true
			}
		}
	}
}

func idsOf(s Subscriber) []string {
	ids := []string{s.ID}
	for _, offer := range s.Offers {
		ids = append(ids, offer.ID)
		for _, balance := range offer.Balances {
			ids = append(ids, balance.ID)
		}
	}
	return ids
}

func TestFleetFindsNobodyElse(t *testing.T) {
	fleet := Fleet(100, 7)
	known := fleet.At(3, midday).ICCID
	wrongCheck := known[:18] + strconv.Itoa((int(known[18]-'0')+1)%10)
	unknownDevice := 0
	for fleet.hasIMEI(unknownDevice) {
		unknownDevice++
	}
	for _, test := range []struct{ name, kind, value string }{
		{"nothing", "iccid", ""},
		{"a short number", "iccid", known[:18]},
		{"a long number", "iccid", known + "0"},
		{"a wrong check digit", "iccid", wrongCheck},
		{"another prefix", "iccid", "9" + known[1:]},
		{"no number", "iccid", "894450abcdefghijklm"},
		{"another fleet's", "iccid", Fleet(100, 8).At(3, midday).ICCID},
		{"the next batch's", "iccid", Fleet(101, 7).At(100, midday).ICCID},
		{"another type", "eid", known},
		{"a device that is not known", "imei", fleet.identifier("imei", unknownDevice)},
	} {
		_, found := fleet.Find(test.kind, test.value)
		assert.False(t, found, test.name)
	}
}

func TestFleetCheckDigit(t *testing.T) {
	// The usual example of the Luhn algorithm.
	assert.Equal(t, "3", luhn("7992739871"))
}

func TestFleetIsMixed(t *testing.T) {
	fleet := Fleet(5_000, 1)
	units, types, statuses := map[string]int{}, map[string]int{}, map[string]int{}
	for i := range fleet.Len() {
		subscriber := fleet.At(i, midday)
		require.Contains(t, []int{1, 2}, len(subscriber.Offers))
		statuses[subscriber.Status]++
		balances := 0
		for _, offer := range subscriber.Offers {
			types[offer.Type]++
			balances += len(offer.Balances)
			for _, balance := range offer.Balances {
				units[balance.Unit]++
			}
		}
		require.Positive(t, balances)
	}
	for _, unit := range []string{"KB", "MB", "GB", "SMS", "USD", "EUR", "GBP", "MINUTES"} {
		assert.Greater(t, units[unit], 50, unit)
	}
	for _, kind := range []string{"USAGE", "MONEY", "RATE"} {
		assert.Greater(t, types[kind], 500, kind)
	}
	for _, status := range []string{"SUSPEND", "INACTIVE", "TERMINATED"} {
		assert.Greater(t, statuses[status], 50, status)
	}
	assert.Greater(t, statuses["ACTIVE"], 4_000)
}

func TestFleetBalancesFallAndAreRenewed(t *testing.T) {
	fleet := Fleet(5, 1)
	for i := range fleet.Len() {
		assert.Equal(t, fleet.At(i, midday), Fleet(5, 1).At(i, midday))
		last, renewals := -1.0, 0
		for at := midday; at.Before(midday.Add(24 * time.Minute)); at = at.Add(time.Second) {
			value, err := strconv.ParseFloat(fleet.At(i, at).Offers[0].Balances[0].Value, 64)
			require.NoError(t, err)
			require.GreaterOrEqual(t, value, 0.0)
			if last >= 0 && value > last {
				renewals++
			}
			last = value
		}
		assert.GreaterOrEqual(t, renewals, 2)
		assert.LessOrEqual(t, renewals, 6)
	}
}

func BenchmarkFleetAt(b *testing.B) {
	fleet := Fleet(100_000, 1)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		fleet.At(i%fleet.Len(), midday)
	}
}
