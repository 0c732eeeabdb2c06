-- The bytes of wsrelay.v1: JSON that has one reading, checksums, ids.
-- What is no frame raises an error, a string for people.

local bit = require "bit"
local cjson = require("cjson.safe").new()
local ffi = require "ffi"

cjson.decode_invalid_numbers(false)
cjson.decode_max_depth(8)

local MAX_SEQ = 2 ^ 53 - 1
local MAX_HOST = 255 -- bytes
local LAST_TIME = 253402300799999 -- 9999-12-31, in ms

local codec = {}

-- quoted is s as a JSON string. Numbers are written with %.0f wherever they
-- may be large: Debian's cjson knows but 14 digits.
codec.quoted = cjson.encode
codec.decode = cjson.decode

local function bad(...)
    error(string.format(...), 0)
end

-- utf8 tells whether s is UTF-8: PCRE looks before it searches.
local function utf8(s)
    local _, _, err = ngx.re.find(s, "", "uo")
    return not err
end

-- repaired is s as UTF-8, nil if it is already. In UTF-8 every byte of a
-- character that has several is above 127, so each run of them stands alone.
function codec.repaired(s)
    if utf8(s) then
        return nil
    end
    return (s:gsub("[\128-\255]+", function(run)
        return utf8(run) and run or "\239\191\189"
    end))
end

-- An absent member, or null, is 0 or "": so what is required fails here, too.
local function whole(m, name, low, high)
    local n = m[name]
    if n == nil or n == cjson.null then
        n = 0
    end
    if type(n) ~= "number" or n ~= math.floor(n) or n < low or n > (high or MAX_SEQ) then
        bad("%s is not a whole number from %.0f", name, low)
    end
    return n
end

local function text(m, name)
    local s = m[name]
    if s == nil or s == cjson.null then
        return ""
    end
    if type(s) ~= "string" then
        bad("%s is not a string", name)
    end
    return s
end

local function object(message)
    local m = utf8(message) and message:find("^%s*{") and cjson.decode(message)
    return m or bad("not a JSON object")
end

local function batch(m)
    whole(m, "b", 1)
    whole(m, "seq", 1)
    whole(m, "n", 1, MAX_SEQ - m.seq + 1)
    m.at = whole(m, "at", 0, LAST_TIME)
    return m
end

-- control reads a TEXT message: a hello, gap or bye.
function codec.control(message)
    local m = object(message)
    if m.t == "hello" then
        whole(m, "v", 1)
        whole(m, "head", 1, MAX_SEQ + 1)
        whole(m, "acked", 1, m.head)
        if not text(m, "sid"):find("^[0-9a-v]+$") or #m.sid ~= 16 then
            bad("this is no sid")
        end
        m.host = text(m, "host")
        if #m.host > MAX_HOST then
            bad("a host of %d bytes", #m.host)
        end
        if type(m.proof) == "table" then
            m.proof = { uid = text(m.proof, "uid"), rt = text(m.proof, "rt") }
        else
            m.proof = nil
        end
    elseif m.t == "gap" then
        batch(m)
        m.maybe = m.maybe == true
        if text(m, "why") == "" then
            bad("a gap without a reason")
        end
    elseif m.t ~= "bye" then
        bad("a sender sends hello, data, gap and bye")
    end
    return m
end

-- data takes a BINARY message apart: its header and the payload.
function codec.data(message)
    local newline = message:sub(1, 4097):find("\n", 1, true)
    if not newline then
        bad("no header line")
    end
    local m = batch(object(message:sub(1, newline - 1)))
    whole(m, "raw", m.n)
    if text(m, "enc") == "" or not text(m, "c"):find("^[0-9a-f]+$") or #m.c ~= 8 then
        bad("enc or c is missing")
    end
    return m, message:sub(newline + 1)
end

-- lines of a raw payload, nil if they are not what the header says.
function codec.lines(m, payload)
    if m.enc ~= "raw" or #payload ~= m.raw or payload:byte(-1) ~= 10 then
        return nil
    end
    local lines, n = {}, 0
    for line in payload:gmatch("([^\n]*)\n") do
        n = n + 1
        lines[n] = line
    end
    return n == m.n and lines or nil
end

local crcs = ffi.new("uint32_t[256]")
for i = 0, 255 do
    local c = i
    for _ = 1, 8 do
        local low = bit.band(c, 1)
        c = bit.bxor(bit.rshift(c, 1), low == 1 and 0x82f63b78 or 0)
    end
    crcs[i] = c
end

-- crc is the CRC-32C of s in 8 hexadecimal digits.
function codec.crc(s)
    local bytes, c = ffi.cast("const uint8_t *", s), -1
    for i = 0, #s - 1 do
        c = bit.bxor(crcs[bit.band(bit.bxor(c, bytes[i]), 255)], bit.rshift(c, 8))
    end
    return bit.tohex(bit.bnot(c))
end

local DIGITS = "0123456789abcdefghijklmnopqrstuv"

-- uid is the id of the document of a line. A seq has up to 53 bits, the
-- operators of bit only 32: hence the arithmetic.
function codec.uid(sid, seq)
    local digits = {}
    for i = 13, 1, -1 do
        local d = seq % 32
        digits[i] = DIGITS:sub(d + 1, d + 1)
        seq = (seq - d) / 32
    end
    return sid .. table.concat(digits)
end

-- time writes milliseconds since 1970 as RFC 3339.
function codec.time(ms)
    return os.date("!%Y-%m-%dT%H:%M:%S", math.floor(ms / 1000)) .. string.format(".%03dZ", ms % 1000)
end

return codec
