-- A receiver of wsrelay.v1 (docs/protocol.md). A session is one WebSocket and
-- three light threads: read takes what comes and answers Pings at any time,
-- commit hands one batch after the other to the engine, write does all the
-- writing and looks at the clock.

local codec = require "wsrelay.codec"
local engine = require "wsrelay.engine"
local semaphore = require "ngx.semaphore"
-- OpenResty has it under the first name, Debian under the second.
local found, server = pcall(require, "resty.websocket.server")
if not found then
    server = require "nginx.websocket.server"
end

local quoted = codec.quoted

local MAX = 1048576 -- bytes of a message: the library does not join fragments
local BATCHES = 2 -- that may be under way
local BULK = 5000 -- documents in one request
local HEARTBEAT, ACK_TIMEOUT, GREETING = 20, 60, 10 -- seconds
local LOCK = 300 -- seconds: longer than an attempt with the engine can take

local receiver = {}
local shared -- the lua_shared_dict: it outlives reloads, and all workers see it
local secret
local refuses -- a sender that shows a receipt which was not given

-- setup runs in init_by_lua: {dict, secret_file, wrong_receipt, and host, port
-- and prefix of the engine}.
function receiver.setup(options)
    shared = assert(ngx.shared[options.dict], "no lua_shared_dict of this name")
    local file = assert(io.open(options.secret_file, "rb"))
    secret = file:read("*a")
    file:close()
    assert(#secret >= 16, "the secret is too short")
    refuses = (options.wrong_receipt or "refuse") == "refuse"
    for _, name in ipairs { "host", "port", "prefix" } do
        engine[name] = options[name] or engine[name]
    end
end

-- token goes along with a receipt: that this uid, which begins with the sid, was
-- given.
local function token(uid)
    local mac = ngx.hmac_sha1(secret, uid)
    return (mac:gsub(".", function(c)
        return string.format("%02x", c:byte())
    end))
end

-- proved tells whether the receipt that a hello shows is one of ours. Where
-- either side knows of none, nothing is asked. It need not be the last: that one
-- may have been lost on its way, or the sender before it had written it down;
-- after a change of sid it is one of the former.
local function proved(hello)
    local last, proof = shared:get("last:" .. hello.sid), hello.proof
    if not last or not proof then
        return true
    elseif proof.rt ~= token(proof.uid) then
        return false
    elseif proof.uid ~= last then
        ngx.log(ngx.WARN, "stream ", hello.sid, " shows the receipt for ", proof.uid, " where ", last,
            " was the last: that was lost, or this is a copy of a queue")
    end
    return true
end

local Session = {}
Session.__index = Session

function Session:say(kind, payload)
    self.outbox[#self.outbox + 1] = { kind, payload }
    self.wake:post()
end

function Session:text(format, ...)
    self:say("text", string.format(format, ...))
end

-- close ends the session: the reason in words where there is one, the code, and
-- then nothing more.
function Session:close(code, reason)
    if self.over then
        return
    end
    if reason then
        self:text('{"t":"err","code":%d,"msg":%s}', code, quoted(reason))
        ngx.log(ngx.WARN, "session ends with ", code, ": ", reason)
    end
    self.over = true
    self:say("close", code)
    self.work:post()
end

function Session:read()
    while true do
        local message, kind, err = self.ws:recv_frame()
        if self.over and kind ~= "close" and message then
            kind = "ignored" -- we have said Close and wait for the answer
        end
        if not message then
            if not self.over then
                ngx.log(ngx.WARN, "session ends: ", err)
            end
            return self:close(1002) -- the library sends nothing after an error: it is for us
        elseif kind == "close" then
            return self:close(1000)
        elseif err == "again" or kind == "continuation" then
            self:close(1003, "this receiver does not join fragments")
        elseif kind == "ping" then
            self:say("pong", message)
        elseif kind == "text" or kind == "binary" then
            if #self.inbox > BATCHES then
                self:close(4400, "more under way than the window allows")
            else
                table.insert(self.inbox, { kind, message })
                self.work:post()
            end
        end
    end
end

function Session:write()
    local pinged = ngx.now()
    while true do
        self.wake:wait(1)
        while #self.outbox > 0 do
            local kind, payload = unpack(table.remove(self.outbox, 1))
            if not self.ws["send_" .. kind](self.ws, payload) or kind == "close" then
                self.over = true
                return self.work:post()
            end
        end
        local now = ngx.now()
        if now - pinged >= HEARTBEAT then
            pinged = now
            self:say("ping")
        end
        self:watch(now)
    end
end

-- watch does what only the clock brings about.
function Session:watch(now)
    if shared:get("session:" .. self.hello.sid) ~= self.number then
        self:close(4409, "a newer session has the same sid")
    elseif ngx.worker.exiting() and not self.leaving then
        self.leaving = now
        self:text('{"t":"bye","why":"shutdown","after_ms":1000}')
    elseif self.leaving and now - self.leaving > 5 then
        self:close(1012)
    elseif self.since and now - math.max(self.since, engine.answered or 0) > ACK_TIMEOUT then
        self:close(4503, "the engine does not answer")
    elseif self.since and now - self.busy > ACK_TIMEOUT / 3 then
        self.busy = now
        self:text('{"t":"busy","ms":%d,"why":"store"}', (now - self.since) * 1000)
    end
end

-- commit takes one message after the other, in order, until the session ends.
function Session:commit()
    while not self.over do
        self.work:wait(60)
        while #self.inbox > 0 and not self.over do
            self:take(unpack(table.remove(self.inbox, 1)))
        end
    end
end

function Session:take(kind, message)
    local ok, m, payload = pcall(kind == "binary" and codec.data or codec.control, message)
    if not ok then
        return self:close(4400, m)
    elseif m.t == "bye" then
        return self:close(1000) -- all before it has its receipt
    elseif m.t == "hello" then
        return self:close(4400, "a second hello")
    end
    self.expect = self.expect or (m.seq >= self.hello.acked and m.seq or nil)
    if m.seq ~= self.expect then
        return self.ignoring or self:nak(m, "order")
    end
    local lines
    if payload then
        if m.raw > MAX then
            return self:nak(m, "too_big", string.format(',"max":%d', MAX))
        elseif codec.crc(payload) ~= m.c then
            return self:nak(m, "crc")
        end
        lines = codec.lines(m, payload)
        if not lines then
            return self:nak(m, "decode")
        end
    end
    self.ignoring = false
    self:store(m, lines)
end

function Session:nak(m, code, more)
    self.ignoring = true
    self:text('{"t":"nak","b":%.0f,"code":"%s","expect":%.0f%s}', m.b, code, self.expect or self.hello.acked, more or "")
end

function Session:store(m, lines)
    self.since, self.busy = ngx.now(), ngx.now()
    local new, dup, last = 0, 0, nil
    for first = 1, lines and m.n or 1, BULK do
        local docs = lines and engine.of_lines(self.hello, m, lines, first, math.min(first + BULK - 1, m.n))
            or engine.of_gap(self.hello, m)
        local n, d = self:persist(m, docs)
        if not n then
            return -- the session is over
        end
        new, dup, last = new + n, dup + d, docs[#docs].id
    end
    self.fresh = dup == 0
    self.expect = m.seq + m.n
    shared:set("last:" .. self.hello.sid, last)
    self:text('{"t":"ack","seq":%.0f,"b":%.0f,"new":%d,"dup":%d,"took":%d,"uid":{"first":"%s","last":"%s"},"rt":"%s"}',
        self.expect, m.b, new, dup, (ngx.now() - self.since) * 1000,
        codec.uid(self.hello.sid, m.seq) .. (lines and "" or last:sub(30)), last, token(last))
    self.since = nil
end

-- persist tries until all docs are final, and gives how many are new and how
-- many were there; nothing if the session ends first. As long as no document
-- was there already none is looked up before it is created.
function Session:persist(m, docs)
    local new, dup, pause, look = 0, 0, 0.1, not self.fresh
    while not self.over do
        local done = self:alone(engine.store, docs, engine.index(m.at), look)
        if not done then
            return self:close(4409, "a newer session has the same sid")
        elseif done.diverged then
            self:text('{"t":"nak","b":%.0f,"code":"diverged","expect":%.0f}', m.b, done.diverged)
            return self:close(1000)
        end
        new, dup, docs = new + done.new, dup + done.dup, done.left
        if #docs == 0 then
            return new, dup
        end
        if pause == 0.1 then -- the first time; the end of a session says the rest
            ngx.log(ngx.WARN, #docs, " documents are not stored yet, they are tried again: ", done.err)
        end
        look = true -- what is unknown may be there
        ngx.sleep(pause * (0.5 + math.random()))
        pause = math.min(pause * 2, 5)
    end
end

-- alone calls f while no other session of the stream does, in any worker, and
-- only if this one is the newest.
function Session:alone(f, ...)
    local sid = self.hello.sid
    while not shared:add("commit:" .. sid, self.number, LOCK) do
        ngx.sleep(0.05)
    end
    local ok, result = true, nil
    if shared:get("session:" .. sid) == self.number then
        ok, result = pcall(f, ...)
    end
    shared:delete("commit:" .. sid)
    if not ok then
        error(result, 0)
    end
    return result
end

-- refuse answers the upgrade with a plain status.
local function refuse(status, words)
    ngx.status = status
    ngx.say(words)
    return ngx.exit(ngx.HTTP_OK)
end

-- greet reads hello. It gives nothing if the session is not to be.
local function greet(ws)
    local function fail(code, words)
        ws:send_text(string.format('{"t":"err","code":%d,"msg":%s}', code, quoted(words)))
        ws:send_close(code)
    end
    local message, kind, err = ws:recv_frame()
    if not message then
        return fail(err:find("timeout", 1, true) and 4408 or 4400, err)
    end
    local ok, hello = pcall(codec.control, kind == "text" and message or "")
    if not ok then
        return fail(4400, hello)
    elseif hello.t ~= "hello" then
        return fail(4400, "hello comes first")
    elseif hello.v ~= 1 then
        return fail(4426, "this receiver speaks version 1")
    elseif not proved(hello) then
        ngx.log(ngx.WARN, "stream ", hello.sid, " shows a receipt that it was not given: ", refuses and "refused" or "taken all the same")
        if refuses then
            return fail(4403, "this is not a receipt that was given to this stream")
        end
    end
    return hello
end

-- serve is the content handler.
function receiver.serve()
    local offered = ngx.var.http_sec_websocket_protocol or ""
    if not ("," .. offered:gsub("%s", "") .. ","):find(",wsrelay.v1,", 1, true) then
        return refuse(426, "this speaks wsrelay.v1")
    elseif ngx.var.http_origin then
        return refuse(403, "not for web pages")
    end
    -- The library answers with what it finds here, as it stands.
    ngx.req.set_header("Sec-WebSocket-Protocol", "wsrelay.v1")
    local ws, err = server:new { timeout = GREETING * 1000, max_payload_len = 16384 }
    if not ws then
        return refuse(400, err)
    end
    local hello = greet(ws)
    if not hello then
        return
    end
    -- The library looks at the first; newer versions, as 0.13, at the others.
    ws.max_payload_len, ws.max_recv_len, ws.max_send_len = MAX, MAX, MAX
    ws:set_timeout(2.5 * HEARTBEAT * 1000)

    local s = setmetatable({
        ws = ws, hello = hello, number = shared:incr("sessions", 1, 0),
        inbox = {}, work = semaphore.new(), outbox = {}, wake = semaphore.new(),
    }, Session)
    shared:set("session:" .. hello.sid, s.number)
    s:text('{"t":"welcome","session":"%.0f","max":%d,"max_raw":%d,"enc":["raw"],"win":{"bytes":%d,"batches":%d},'
        .. '"hb":%d,"ack_to":%d,"guarantee":"exactly-once","store":"%s"}',
        s.number, MAX, MAX, BATCHES * MAX, BATCHES, HEARTBEAT * 1000, ACK_TIMEOUT * 1000, engine.prefix)
    local read, commit = ngx.thread.spawn(s.read, s), ngx.thread.spawn(s.commit, s)
    ngx.thread.wait(ngx.thread.spawn(s.write, s))
    -- What arrives unread would reset the connection, and our last words with
    -- it: so a second for the answer to our Close. A request to the engine is
    -- waited for, and its outcome forgotten: the lines come again.
    ngx.thread.wait(read, ngx.thread.spawn(function()
        ngx.sleep(1)
    end))
    ngx.thread.kill(read)
    ngx.thread.wait(commit)
end

return receiver
