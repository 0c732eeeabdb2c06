-- Documents, and how they get into Elasticsearch or OpenSearch.

local codec = require "wsrelay.codec"

local quoted = codec.quoted

local engine = {
    host = "127.0.0.1",
    port = 9200,
    prefix = "wsrelay-nginx", -- the index is PREFIX-YYYY.MM.DD
}

-- index is a function of `at` alone, which never changes: a line that is sent
-- again meets itself there, for an id is unique only within its index.
function engine.index(at)
    return engine.prefix .. os.date("!-%Y.%m.%d", math.floor(at / 1000))
end

local function document(index, doc, own, at, message)
    doc.body = string.format('{"create":{"_index":"%s","_id":"%s"}}\n{"wsrelay":{%s},"@timestamp":"%s","message":%s}\n',
        index, doc.id, own, at, quoted(message))
    return doc
end

-- of_lines makes the documents of lines first to last of a batch. What is not
-- UTF-8 in a line becomes U+FFFD; its bytes are then in wsrelay.raw.
function engine.of_lines(hello, m, lines, first, last)
    local docs, index, at, host = {}, engine.index(m.at), codec.time(m.at), quoted(hello.host)
    for i = first, last do
        local line, seq = lines[i], m.seq + i - 1
        local doc = { seq = seq, id = codec.uid(hello.sid, seq), crc = codec.crc(line) }
        local own = string.format('"sid":"%s","seq":%.0f,"crc":"%s","at":"%s","host":%s', hello.sid, seq, doc.crc, at, host)
        local repaired = codec.repaired(line)
        if repaired then
            own = own .. ',"raw":"' .. ngx.encode_base64(line) .. '"'
        end
        docs[#docs + 1] = document(index, doc, own, at, repaired or line)
    end
    return docs
end

-- of_gap makes the one document that stands for lines that will never come.
function engine.of_gap(hello, m)
    local at, n = codec.time(m.at), string.format("%.0f", m.n)
    local own = string.format('"sid":"%s","seq":%.0f,"at":"%s","host":%s,"gap":{"n":%s,"why":%s,"maybe":%s}',
        hello.sid, m.seq, at, quoted(hello.host), n, quoted(m.why), m.maybe)
    local doc = { seq = m.seq, id = codec.uid(hello.sid, m.seq) .. "g" .. n }
    return { document(engine.index(m.at), doc, own, at, n .. " lines will not come: " .. m.why) }
end

-- post speaks HTTP/1.0: the answer has no chunks and ends with the connection.
-- An answer that was cut off is no JSON, and so no answer.
local function post(path, kind, body)
    local sock = ngx.socket.tcp()
    sock:settimeouts(5000, 30000, 30000)
    local ok, err = sock:connect(engine.host, engine.port)
    if not ok then
        return nil, err
    end
    local answer
    ok, err = sock:send { "POST ", path, " HTTP/1.0\r\nHost: ", engine.host, "\r\nContent-Type: application/", kind,
        "\r\nContent-Length: ", #body, "\r\n\r\n", body }
    if ok then
        answer, err = sock:receive("*a")
    end
    sock:close()
    if not answer then
        return nil, err
    end
    engine.answered = ngx.now()
    local status = answer:match("^HTTP/1%.%d (%d%d%d)")
    if status ~= "200" then
        return nil, "status " .. (status or "unknown")
    end
    local _, head = answer:find("\r\n\r\n", 1, true)
    local m = head and codec.decode(answer:sub(head + 1))
    if type(m) ~= "table" then
        return nil, "an answer that is no JSON"
    end
    return m
end

-- kept gives id → CRC of those documents that are there; "" where none is kept.
local function kept(index, docs)
    local ids = {}
    for i, doc in ipairs(docs) do
        ids[i] = '"' .. doc.id .. '"'
    end
    local answer, err = post("/" .. index .. "/_mget?_source_includes=wsrelay.crc", "json", '{"ids":[' .. table.concat(ids, ",") .. "]}")
    if not answer then
        return nil, err
    end
    if type(answer.docs) ~= "table" or #answer.docs ~= #docs then
        return nil, "an answer about other documents"
    end
    local crcs = {}
    for _, found in ipairs(answer.docs) do
        if found.error and found.error.type ~= "index_not_found_exception" then
            return nil, found.error.type
        end
        if found.found then
            local own = found._source and found._source.wsrelay
            crcs[found._id] = own and own.crc or ""
        end
    end
    return crcs
end

-- create tries to store documents under their ids once. It gives how many are
-- new, and those that are not final: whether they are there (409), or cannot be
-- stored at the moment, the next attempt finds out.
local function create(docs)
    local bodies = {}
    for i, doc in ipairs(docs) do
        bodies[i] = doc.body
    end
    local answer, err = post("/_bulk", "x-ndjson", table.concat(bodies))
    if not answer then
        return 0, docs, err
    end
    if type(answer.items) ~= "table" or #answer.items ~= #docs then
        return 0, docs, "an answer about other documents"
    end
    local new, left = 0, {}
    for i, item in ipairs(answer.items) do
        local created = item.create or {}
        if created._id == docs[i].id and (created.status == 201 or created.status == 200) then
            new = new + 1
        else -- its reason may quote the line: not for our log
            left[#left + 1] = docs[i]
            err = string.format("item status %s, %s", created.status, created.error and created.error.type)
        end
    end
    return new, left, err
end

-- store tries once. It gives {new, dup, left, err}: left are the documents that
-- have to be tried again. With look, documents that are there already are found
-- before anything is written; one that is another line under the same id stands
-- under diverged, as its seq.
function engine.store(docs, index, look)
    local missing, dup = docs, 0
    if look then
        local crcs, err = kept(index, docs)
        if not crcs then
            return { new = 0, dup = 0, left = docs, err = err }
        end
        missing = {}
        for _, doc in ipairs(docs) do
            local crc = crcs[doc.id]
            if not crc then
                missing[#missing + 1] = doc
            elseif crc ~= "" and crc ~= (doc.crc or "") then
                return { new = 0, dup = 0, left = docs, diverged = doc.seq }
            else
                dup = dup + 1
            end
        end
    end
    if #missing == 0 then
        return { new = 0, dup = dup, left = missing }
    end
    local new, left, err = create(missing)
    return { new = new, dup = dup, left = left, err = err }
end

return engine
