package eightxeightsim

import "strings"

// place is a country as the numbering plans have it.
type place struct {
	alpha2, name, prefix, mcc string
}

// places returns the countries, in the order of their codes.
func places() []place {
	var list []place
	for line := range strings.Lines(placesTable) {
		f := strings.Split(strings.TrimSpace(line), "|")
		list = append(list, place{alpha2: f[0], name: f[1], prefix: "+" + f[2], mcc: f[3]})
	}
	return list
}

// placesTable has ISO 3166-1 alpha-2 code and name, and the dialling prefix
// and mobile country code of the ITU (the first one, where there are several).
const placesTable = `AD|Andorra|376|213
AE|United Arab Emirates|971|424
AF|Afghanistan|93|412
AG|Antigua and Barbuda|1268|344
AI|Anguilla|1264|365
AL|Albania|355|276
AM|Armenia|374|283
AO|Angola|244|631
AR|Argentina|54|722
AS|American Samoa|1684|544
AT|Austria|43|232
AU|Australia|61|505
AW|Aruba|297|363
AZ|Azerbaijan|994|400
BA|Bosnia and Herzegovina|387|218
BB|Barbados|1246|342
BD|Bangladesh|880|470
BE|Belgium|32|206
BF|Burkina Faso|226|613
BG|Bulgaria|359|284
BH|Bahrain|973|426
BI|Burundi|257|642
BJ|Benin|229|616
BM|Bermuda|1441|350
BN|Brunei Darussalam|673|528
BO|Bolivia|591|736
BR|Brazil|55|724
BS|Bahamas|1242|364
BT|Bhutan|975|402
BW|Botswana|267|652
BY|Belarus|375|257
BZ|Belize|501|702
CA|Canada|1|302
CD|Congo, Democratic Republic|243|630
CF|Central African Republic|236|623
CG|Congo|242|629
CH|Switzerland|41|228
CI|Côte d'Ivoire|225|612
CK|Cook Islands|682|548
CL|Chile|56|730
CM|Cameroon|237|624
CN|China|86|460
CO|Colombia|57|732
CR|Costa Rica|506|712
CU|Cuba|53|368
CV|Cabo Verde|238|625
CW|Curaçao|599|362
CY|Cyprus|357|280
CZ|Czechia|420|230
DE|Germany|49|262
DJ|Djibouti|253|638
DK|Denmark|45|238
DM|Dominica|1767|366
DO|Dominican Republic|1809|370
DZ|Algeria|213|603
EC|Ecuador|593|740
EE|Estonia|372|248
EG|Egypt|20|602
ER|Eritrea|291|657
ES|Spain|34|214
ET|Ethiopia|251|636
FI|Finland|358|244
FJ|Fiji|679|542
FO|Faroe Islands|298|288
FR|France|33|208
GA|Gabon|241|628
GB|United Kingdom|44|234
GD|Grenada|1473|352
GE|Georgia|995|282
GF|French Guiana|594|742
GH|Ghana|233|620
GI|Gibraltar|350|266
GL|Greenland|299|290
GM|Gambia|220|607
GN|Guinea|224|611
GP|Guadeloupe|590|340
GQ|Equatorial Guinea|240|627
GR|Greece|30|202
GT|Guatemala|502|704
GU|Guam|1671|535
GW|Guinea-Bissau|245|632
GY|Guyana|592|738
HK|Hong Kong|852|454
HN|Honduras|504|708
HR|Croatia|385|219
HT|Haiti|509|372
HU|Hungary|36|216
ID|Indonesia|62|510
IE|Ireland|353|272
IL|Israel|972|425
IN|India|91|404
IQ|Iraq|964|418
IR|Iran|98|432
IS|Iceland|354|274
IT|Italy|39|222
JM|Jamaica|1876|338
JO|Jordan|962|416
JP|Japan|81|440
KE|Kenya|254|639
KG|Kyrgyzstan|996|437
KH|Cambodia|855|456
KI|Kiribati|686|545
KM|Comoros|269|654
KN|Saint Kitts and Nevis|1869|356
KR|Korea, Republic of|82|450
KW|Kuwait|965|419
KY|Cayman Islands|1345|346
KZ|Kazakhstan|7|401
LA|Lao PDR|856|457
LB|Lebanon|961|415
LC|Saint Lucia|1758|358
LI|Liechtenstein|423|295
LK|Sri Lanka|94|413
LR|Liberia|231|618
LS|Lesotho|266|651
LT|Lithuania|370|246
LU|Luxembourg|352|270
LV|Latvia|371|247
LY|Libya|218|606
MA|Morocco|212|604
MC|Monaco|377|212
MD|Moldova|373|259
ME|Montenegro|382|297
MG|Madagascar|261|646
MK|North Macedonia|389|294
ML|Mali|223|610
MM|Myanmar|95|414
MN|Mongolia|976|428
MO|Macao|853|455
MR|Mauritania|222|609
MS|Montserrat|1664|354
MT|Malta|356|278
MU|Mauritius|230|617
MV|Maldives|960|472
MW|Malawi|265|650
MX|Mexico|52|334
MY|Malaysia|60|502
MZ|Mozambique|258|643
NA|Namibia|264|649
NC|New Caledonia|687|546
NE|Niger|227|614
NG|Nigeria|234|621
NI|Nicaragua|505|710
NL|Netherlands|31|204
NO|Norway|47|242
NP|Nepal|977|429
NZ|New Zealand|64|530
OM|Oman|968|422
PA|Panama|507|714
PE|Peru|51|716
PF|French Polynesia|689|547
PG|Papua New Guinea|675|537
PH|Philippines|63|515
PK|Pakistan|92|410
PL|Poland|48|260
PR|Puerto Rico|1787|330
PS|Palestine|970|425
PT|Portugal|351|268
PW|Palau|680|552
PY|Paraguay|595|744
QA|Qatar|974|427
RE|Réunion|262|647
RO|Romania|40|226
RS|Serbia|381|220
RU|Russian Federation|7|250
RW|Rwanda|250|635
SA|Saudi Arabia|966|420
SB|Solomon Islands|677|540
SC|Seychelles|248|633
SD|Sudan|249|634
SE|Sweden|46|240
SG|Singapore|65|525
SI|Slovenia|386|293
SK|Slovakia|421|231
SL|Sierra Leone|232|619
SM|San Marino|378|292
SN|Senegal|221|608
SO|Somalia|252|637
SR|Suriname|597|746
SS|South Sudan|211|659
ST|Sao Tome and Principe|239|626
SV|El Salvador|503|706
SX|Sint Maarten|1721|362
SY|Syrian Arab Republic|963|417
SZ|Eswatini|268|653
TC|Turks and Caicos Islands|1649|376
TD|Chad|235|622
TG|Togo|228|615
TH|Thailand|66|520
TJ|Tajikistan|992|436
TL|Timor-Leste|670|514
TM|Turkmenistan|993|438
TN|Tunisia|216|605
TO|Tonga|676|539
TR|Türkiye|90|286
TT|Trinidad and Tobago|1868|374
TW|Taiwan|886|466
TZ|Tanzania|255|640
UA|Ukraine|380|255
UG|Uganda|256|641
US|United States|1|310
UY|Uruguay|598|748
UZ|Uzbekistan|998|434
VC|Saint Vincent and the Grenadines|1784|360
VE|Venezuela|58|734
VG|Virgin Islands, British|1284|348
VN|Viet Nam|84|452
VU|Vanuatu|678|541
WS|Samoa|685|549
YE|Yemen|967|421
ZA|South Africa|27|655
ZM|Zambia|260|645
ZW|Zimbabwe|263|648
`
