/* gotemplate.c - Go templates to Jinja, in one pass: text, then an action, then text.
 *
 * Text becomes string expressions, so that nothing of Jinja's own trimming touches it. Variables
 * ($x) become attributes of one namespace, since Go lets inner blocks assign outer ones. The dot is
 * a piece of Jinja kept on the stack of open blocks.
 *
 * The older kind of template is wrapped in a loop over the conversation's exchanges. The last of
 * them has no response yet: there everything from .Response on is left out (the "cut"), also behind
 * the ends of the blocks that it is in. */
#include "app/gotemplate.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/limits.h"

#define BLOCKS_MAX 32
#define DEPTH_MAX  32
#define WORD_MAX   64

typedef enum block_kind { BLOCK_ROOT, BLOCK_IF, BLOCK_RANGE } block_kind;

typedef struct block {
    block_kind kind;
    bool cut;      /* what is being written stands in an if of the cut */
    bool cut_seen; /* the cut began in here */
    char dot[200]; /* what the dot is, as Jinja; "": the root */
} block;

typedef struct translator {
    const char *at, *end; /* what is left to read; in an action: to its closing braces */
    int line;
    bool has_messages; /* the newer kind */
    block blocks[BLOCKS_MAX];
    int depth;
    int names; /* loop variables made so far */
    sl_buf *out;
    sl_err *err;
} translator;

static sl_status refuse(const translator *t, const char *what, const char *detail)
{
    return sl_fail(t->err, SL_EINVAL, "template line %d: %s%.80s", t->line, what, detail);
}

/* ---- words --------------------------------------------------------------------------------- */

static void skip_space(translator *t)
{
    while (t->at < t->end && isspace((unsigned char)*t->at)) {
        t->line += *t->at == '\n';
        t->at++;
    }
}

static bool is_name_char(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

/* A name at the reading place; empty when there is none. */
static sl_status read_name(translator *t, char ret[WORD_MAX])
{
    size_t n = 0;

    while (t->at < t->end && is_name_char(*t->at)) {
        if (n + 1 == WORD_MAX)
            return refuse(t, "a name is too long", "");
        ret[n++] = *t->at++;
    }
    ret[n] = '\0';
    return SL_OK;
}

static bool eat(translator *t, const char *text)
{
    size_t len = strlen(text);

    if ((size_t)(t->end - t->at) < len || memcmp(t->at, text, len) != 0)
        return false;
    t->at += len;
    return true;
}

/* A keyword that ends where it does. */
static bool eat_word(translator *t, const char *word)
{
    const char *from = t->at;

    skip_space(t);
    if (eat(t, word) && (t->at == t->end || !is_name_char(*t->at)))
        return true;
    t->at = from;
    return false;
}

static void put_literal(sl_buf *out, const char *text, size_t len)
{
    sl_buf_putc(out, '\'');
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '\n')
            sl_buf_puts(out, "\\n");
        else if (text[i] == '\r')
            sl_buf_puts(out, "\\r");
        else if (text[i] == '\'' || text[i] == '\\')
            sl_buf_printf(out, "\\%c", text[i]);
        else
            sl_buf_putc(out, text[i]);
    }
    sl_buf_putc(out, '\'');
}

/* ---- expressions --------------------------------------------------------------------------- */

static sl_status put_pipeline(translator *t, sl_buf *out, int depth);

/* Go's names of fields as those of the messages and tools that Jinja templates get. */
static const char *field_name(const char *go, char buf[WORD_MAX * 2])
{
    size_t n = 0;

    if (strcmp(go, "Thinking") == 0)
        return "reasoning_content";
    if (strcmp(go, "ToolName") == 0)
        return "name";
    for (const char *p = go; *p; p++) {
        if (isupper((unsigned char)*p) && p > go && !isupper((unsigned char)p[-1]))
            buf[n++] = '_';
        buf[n++] = (char)tolower((unsigned char)*p);
    }
    buf[n] = '\0';
    return buf;
}

/* The variables that templates are run with. */
static const char *root_name(const char *go)
{
    static const struct {
        const char *go, *jinja;
    } table[] = { { "Messages", "messages" },    { "Tools", "(tools or [])" },
                  { "System", "ns.system" },     { "Prompt", "ns.prompt" },
                  { "Response", "ns.response" }, { "Suffix", "''" },
                  { "Thinking", "''" },          { "Think", "false" },
                  { "ThinkLevel", "''" },        { "IsThinkSet", "false" },
                  { "First", "ns.first" } };

    for (size_t i = 0; i < SL_COUNT_OF(table); i++)
        if (strcmp(table[i].go, go) == 0)
            return table[i].jinja;
    return NULL;
}

/* .A.B behind what out ends with. */
static sl_status put_fields(translator *t, sl_buf *out)
{
    char go[WORD_MAX], snake[WORD_MAX * 2];

    while (t->at < t->end && *t->at == '.') {
        t->at++;
        SL_TRY(read_name(t, go));
        if (!go[0])
            return refuse(t, "a name is missing behind the dot", "");
        sl_buf_printf(out, ".%s", field_name(go, snake));
    }
    return SL_OK;
}

/* .A.B of the root. */
static sl_status put_root(translator *t, sl_buf *out)
{
    char go[WORD_MAX];

    if (!eat(t, "."))
        return refuse(t, "all of the variables together are no value", "");
    SL_TRY(read_name(t, go));
    if (!root_name(go))
        return refuse(t, "unknown variable .", go);
    sl_buf_puts(out, root_name(go));
    return put_fields(t, out);
}

static sl_status put_dot(translator *t, sl_buf *out)
{
    const char *dot = t->blocks[t->depth].dot;
    bool is_alone = t->at + 1 >= t->end || !is_name_char(t->at[1]);

    if (!dot[0])
        return put_root(t, out);
    sl_buf_puts(out, dot);
    if (!is_alone)
        return put_fields(t, out);
    t->at++;
    return SL_OK;
}

static sl_status put_variable(translator *t, sl_buf *out)
{
    char name[WORD_MAX];

    t->at++; /* $ */
    SL_TRY(read_name(t, name));
    if (!name[0])
        return put_root(t, out);
    sl_buf_printf(out, "ns.v_%s", name);
    return put_fields(t, out);
}

static sl_status put_string(translator *t, sl_buf *out)
{
    char quote = *t->at++;
    sl_buf text;

    sl_buf_init(&text, SL_TEMPLATE_BYTES_MAX);
    while (t->at < t->end && *t->at != quote) {
        char c = *t->at++;

        if (quote == '"' && c == '\\' && t->at < t->end) {
            char e = *t->at++;

            c = e == 'n' ? '\n' : e == 't' ? '\t' : e == 'r' ? '\r' : e;
        }
        sl_buf_putc(&text, c);
    }
    put_literal(out, sl_buf_str(&text), text.len);
    sl_buf_deinit(&text);
    if (t->at == t->end)
        return refuse(t, "a string does not end", "");
    t->at++;
    return SL_OK;
}

static bool at_operand(translator *t)
{
    skip_space(t);
    return t->at < t->end && (strchr(".$\"`(-", *t->at) || is_name_char(*t->at));
}

static sl_status put_call(translator *t, const char *name, sl_buf *out, int depth,
                          const char *piped);

/* One value. */
static sl_status put_operand(translator *t, sl_buf *out, int depth)
{
    char name[WORD_MAX];

    if (depth > DEPTH_MAX)
        return refuse(t, "nested too deeply", "");
    if (!at_operand(t))
        return refuse(t, "a value is missing", "");
    switch (*t->at) {
    case '.':
        return put_dot(t, out);
    case '$':
        return put_variable(t, out);
    case '"':
    case '`':
        return put_string(t, out);
    case '(':
        t->at++;
        sl_buf_putc(out, '(');
        SL_TRY(put_pipeline(t, out, depth + 1));
        skip_space(t);
        if (!eat(t, ")"))
            return refuse(t, "a parenthesis is not closed", "");
        sl_buf_putc(out, ')');
        return put_fields(t, out);
    case '-':
        t->at++;
        sl_buf_putc(out, '-');
        break;
    default:
        break;
    }
    SL_TRY(read_name(t, name));
    if (!name[0])
        return refuse(t, "a value is missing", "");
    if (isdigit((unsigned char)name[0]) || strcmp(name, "true") == 0 || strcmp(name, "false") == 0)
        sl_buf_puts(out, name);
    else if (strcmp(name, "nil") == 0)
        sl_buf_puts(out, "none");
    else
        return put_call(t, name, out, depth + 1, NULL);
    return SL_OK;
}

/* The arguments of a call as separate pieces of Jinja, the piped one last. */
#define ARGS_MAX 8
typedef struct args {
    sl_buf list[ARGS_MAX];
    int count;
} args;

static void args_deinit(args *a)
{
    for (int i = 0; i < a->count; i++)
        sl_buf_deinit(&a->list[i]);
}

static sl_status read_args(translator *t, args *a, int depth, const char *piped)
{
    while (at_operand(t)) {
        if (a->count == ARGS_MAX - 1)
            return refuse(t, "too many arguments", "");
        sl_buf_init(&a->list[a->count++], SL_TEMPLATE_BYTES_MAX);
        SL_TRY(put_operand(t, &a->list[a->count - 1], depth + 1));
    }
    if (piped) {
        sl_buf_init(&a->list[a->count++], SL_TEMPLATE_BYTES_MAX);
        sl_buf_puts(&a->list[a->count - 1], piped);
    }
    return SL_OK;
}

/* Functions with an operator of Jinja between two arguments. */
static const char *operator_of(const char *name)
{
    static const struct {
        const char *name, *op;
    } table[] = { { "ne", "!=" }, { "lt", "<" },    { "le", "<=" }, { "gt", ">" },
                  { "ge", ">=" }, { "and", "and" }, { "or", "or" } };

    for (size_t i = 0; i < SL_COUNT_OF(table); i++)
        if (strcmp(table[i].name, name) == 0)
            return table[i].op;
    return NULL;
}

static void put_joined(const args *a, const char *op, sl_buf *out)
{
    for (int i = 0; i < a->count; i++)
        sl_buf_printf(out, "%s%s%s%s", i ? " " : "", i ? op : "", i ? " " : "",
                      sl_buf_str(&a->list[i]));
}

/* eq with several arguments: the first is one of the others. */
static void put_eq(const args *a, sl_buf *out)
{
    for (int i = 1; i < a->count; i++)
        sl_buf_printf(out, "%s%s == %s", i > 1 ? " or " : "", sl_buf_str(&a->list[0]),
                      sl_buf_str(&a->list[i]));
}

static void put_slice(const args *a, sl_buf *out)
{
    sl_buf_printf(out, "%s[%s:%s]", sl_buf_str(&a->list[0]),
                  a->count > 1 ? sl_buf_str(&a->list[1]) : "",
                  a->count > 2 ? sl_buf_str(&a->list[2]) : "");
}

static sl_status put_function(const translator *t, const char *name, const args *a, sl_buf *out)
{
    const char *op = operator_of(name), *first = a->count ? sl_buf_str(&a->list[0]) : "";

    sl_buf_putc(out, '(');
    if (op && a->count >= 2)
        put_joined(a, op, out);
    else if (strcmp(name, "eq") == 0 && a->count >= 2)
        put_eq(a, out);
    else if (strcmp(name, "not") == 0 && a->count == 1)
        sl_buf_printf(out, "not %s", first);
    else if (strcmp(name, "len") == 0 && a->count == 1)
        sl_buf_printf(out, "%s | length", first);
    else if ((strcmp(name, "json") == 0 || strcmp(name, "js") == 0) && a->count == 1)
        sl_buf_printf(out, "%s | tojson", first);
    else if (strcmp(name, "index") == 0 && a->count == 2)
        sl_buf_printf(out, "%s[%s]", first, sl_buf_str(&a->list[1]));
    else if (strcmp(name, "slice") == 0 && a->count >= 1 && a->count <= 3)
        put_slice(a, out);
    else if (strcmp(name, "currentDate") == 0 && a->count == 0)
        sl_buf_puts(out, "strftime_now('%Y-%m-%d')");
    else
        return refuse(t, "not supported with these arguments: ", name);
    sl_buf_putc(out, ')');
    return SL_OK;
}

static sl_status put_call(translator *t, const char *name, sl_buf *out, int depth,
                          const char *piped)
{
    args a = { 0 };
    sl_status status;

    if (depth > DEPTH_MAX)
        return refuse(t, "nested too deeply", "");
    status = read_args(t, &a, depth, piped);
    if (status == SL_OK)
        status = put_function(t, name, &a, out);
    args_deinit(&a);
    return status;
}

/* a | f | g: what stands left is the last argument of what stands right. */
static sl_status put_pipeline(translator *t, sl_buf *out, int depth)
{
    sl_buf left;
    sl_status status;

    sl_buf_init(&left, SL_TEMPLATE_BYTES_MAX);
    status = put_operand(t, &left, depth + 1);
    while (status == SL_OK) {
        char name[WORD_MAX];
        sl_buf all;

        skip_space(t);
        if (!eat(t, "|"))
            break;
        skip_space(t);
        sl_buf_init(&all, SL_TEMPLATE_BYTES_MAX);
        status = read_name(t, name);
        if (status == SL_OK)
            status = put_call(t, name, &all, depth + 1, sl_buf_str(&left));
        sl_buf_deinit(&left);
        left = all;
    }
    sl_buf_put(out, sl_buf_str(&left), left.len);
    sl_buf_deinit(&left);
    return status;
}

/* ---- actions ------------------------------------------------------------------------------- */

static sl_status push_block(translator *t, block_kind kind, const char *dot)
{
    if (t->depth + 1 == BLOCKS_MAX)
        return refuse(t, "blocks are nested too deeply", "");
    if (strlen(dot) >= sizeof t->blocks[0].dot)
        return refuse(t, "an expression is too long", "");
    t->depth++;
    t->blocks[t->depth] = (block){ .kind = kind };
    snprintf(t->blocks[t->depth].dot, sizeof t->blocks[0].dot, "%s", dot);
    return SL_OK;
}

static sl_status do_if(translator *t, bool is_with)
{
    sl_buf cond;
    sl_status status;

    sl_buf_init(&cond, SL_TEMPLATE_BYTES_MAX);
    status = put_pipeline(t, &cond, 0);
    if (status == SL_OK) {
        sl_buf_printf(t->out, "{%% if %s %%}", sl_buf_str(&cond));
        status = push_block(t, BLOCK_IF, is_with ? sl_buf_str(&cond) : t->blocks[t->depth].dot);
    }
    sl_buf_deinit(&cond);
    return status;
}

/* range X, range $v := X, range $i, $v := X */
static sl_status do_range(translator *t)
{
    char first[WORD_MAX] = "", second[WORD_MAX] = "", dot[40];
    const char *from = t->at;
    sl_status status;

    skip_space(t);
    if (eat(t, "$")) {
        SL_TRY(read_name(t, first));
        skip_space(t);
        if (eat(t, ",")) {
            skip_space(t);
            if (!eat(t, "$"))
                return refuse(t, "range: a second variable is missing", "");
            SL_TRY(read_name(t, second));
            skip_space(t);
        }
        if (!eat(t, ":=") && !eat(t, "=")) { /* it was a value: range $.Messages */
            if (second[0])
                return refuse(t, "range: := is missing", "");
            t->at = from;
            first[0] = '\0';
        }
    }
    snprintf(dot, sizeof dot, "x%d", t->names++);
    sl_buf_printf(t->out, "{%% for %s in ", dot);
    status = put_pipeline(t, t->out, 0);
    sl_buf_puts(t->out, " %}");
    if (status == SL_OK && first[0] && second[0])
        sl_buf_printf(t->out, "{%% set ns.v_%s = loop.index0 %%}", first);
    if (status == SL_OK && (first[0] || second[0]))
        sl_buf_printf(t->out, "{%% set ns.v_%s = %s %%}", second[0] ? second : first, dot);
    return status == SL_OK ? push_block(t, BLOCK_RANGE, dot) : status;
}

static void close_cut(translator *t)
{
    if (t->blocks[t->depth].cut)
        sl_buf_puts(t->out, "{% endif %}");
    t->blocks[t->depth].cut = false;
}

static void open_cut(translator *t)
{
    if (!t->blocks[t->depth].cut)
        sl_buf_puts(t->out, "{% if not ns.last %}");
    t->blocks[t->depth].cut = t->blocks[t->depth].cut_seen = true;
}

static sl_status do_else(translator *t)
{
    block *b = &t->blocks[t->depth];

    if (b->kind == BLOCK_ROOT)
        return refuse(t, "else without if", "");
    close_cut(t);
    if (b->kind == BLOCK_IF && t->depth > 0)
        memcpy(b->dot, t->blocks[t->depth - 1].dot, sizeof b->dot);
    if (!eat_word(t, "if")) {
        sl_buf_puts(t->out, "{% else %}");
        if (b->cut_seen)
            open_cut(t);
        return SL_OK;
    }
    if (b->kind != BLOCK_IF)
        return refuse(t, "else if without if", "");
    sl_buf_puts(t->out, "{% elif ");
    SL_TRY(put_pipeline(t, t->out, 0));
    sl_buf_puts(t->out, " %}");
    if (b->cut_seen)
        open_cut(t);
    return SL_OK;
}

static sl_status do_end(translator *t)
{
    const block *b = &t->blocks[t->depth];
    bool had_cut = b->cut_seen;

    if (b->kind == BLOCK_ROOT)
        return refuse(t, "end without a block", "");
    close_cut(t);
    sl_buf_puts(t->out, b->kind == BLOCK_IF ? "{% endif %}" : "{% endfor %}");
    t->depth--;
    if (had_cut)
        open_cut(t);
    return SL_OK;
}

/* $x := value, $x = value; false: it is none. */
static sl_status try_assignment(translator *t, bool *ret)
{
    const char *from = t->at;
    char name[WORD_MAX];

    *ret = false;
    t->at++; /* $ */
    SL_TRY(read_name(t, name));
    skip_space(t);
    if (!name[0] || (!eat(t, ":=") && !(t->at < t->end && *t->at == '=' && eat(t, "=")))) {
        t->at = from;
        return SL_OK;
    }
    *ret = true;
    sl_buf_printf(t->out, "{%% set ns.v_%s = ", name);
    SL_TRY(put_pipeline(t, t->out, 0));
    sl_buf_puts(t->out, " %}");
    return SL_OK;
}

static sl_status put_output(translator *t)
{
    bool is_assignment = false;
    sl_buf value;
    sl_status status;

    if (t->at < t->end && *t->at == '$')
        SL_TRY(try_assignment(t, &is_assignment));
    if (is_assignment)
        return SL_OK;
    sl_buf_init(&value, SL_TEMPLATE_BYTES_MAX);
    status = put_pipeline(t, &value, 0);
    if (status == SL_OK)
        sl_buf_printf(t->out, "{{ %s }}", sl_buf_str(&value));
    if (status == SL_OK && !t->has_messages && strcmp(sl_buf_str(&value), "ns.response") == 0)
        open_cut(t);
    sl_buf_deinit(&value);
    return status;
}

static sl_status do_action(translator *t)
{
    static const char *const refused[] = { "define", "template", "block", "break", "continue" };

    for (size_t i = 0; i < SL_COUNT_OF(refused); i++)
        if (eat_word(t, refused[i]))
            return refuse(t, "not supported: ", refused[i]);
    skip_space(t);
    if (t->at == t->end || eat(t, "/*")) {
        t->at = t->end; /* a comment */
        return SL_OK;
    }
    if (eat_word(t, "if"))
        return do_if(t, false);
    if (eat_word(t, "with"))
        return do_if(t, true);
    if (eat_word(t, "range"))
        return do_range(t);
    if (eat_word(t, "else"))
        return do_else(t);
    if (eat_word(t, "end"))
        return do_end(t);
    return put_output(t);
}

/* ---- the whole ----------------------------------------------------------------------------- */

/* The end of an action: its closing braces outside of strings and comments; NULL: there is none. */
static const char *find_close(const char *at, const char *end)
{
    char quote = 0;

    while (at < end && isspace((unsigned char)*at))
        at++;
    if (end - at >= 2 && memcmp(at, "/*", 2) == 0) {
        at = memmem(at, (size_t)(end - at), "*/", 2);
        if (!at)
            return NULL;
    }

    for (; at < end; at++) {
        if (quote && *at == '\\' && quote == '"')
            at++;
        else if (quote)
            quote = *at == quote ? 0 : quote;
        else if (*at == '"' || *at == '`')
            quote = *at;
        else if (*at == '}' && at + 1 < end && at[1] == '}')
            return at;
    }
    return NULL;
}

static void put_text(translator *t, const char *from, const char *to, bool trim_left,
                     bool trim_right)
{
    while (trim_left && from < to && isspace((unsigned char)*from))
        from++;
    while (trim_right && to > from && isspace((unsigned char)to[-1]))
        to--;
    if (to > from) {
        sl_buf_puts(t->out, "{{ ");
        put_literal(t->out, from, (size_t)(to - from));
        sl_buf_puts(t->out, " }}");
    }
}

static void count_lines(translator *t, const char *from, const char *to)
{
    for (; from < to; from++)
        t->line += *from == '\n';
}

static sl_status translate(translator *t, const char *text, const char *end)
{
    bool trim_left = false;

    while (text < end) {
        const char *open = memmem(text, (size_t)(end - text), "{{", 2), *close;
        bool trim_right =
            open && end - open > 3 && open[2] == '-' && isspace((unsigned char)open[3]);

        put_text(t, text, open ? open : end, trim_left, trim_right);
        count_lines(t, text, open ? open : end);
        if (!open)
            break;
        t->at = open + 2 + (trim_right ? 1 : 0);
        close = find_close(t->at, end);
        if (!close)
            return refuse(t, "{{ is not closed", "");
        trim_left = close - t->at >= 2 && close[-1] == '-' && isspace((unsigned char)close[-2]);
        t->end = close - (trim_left ? 1 : 0);
        SL_TRY(do_action(t));
        skip_space(t);
        if (t->at != t->end)
            return refuse(t, "not understood: ", "what stands behind the value");
        text = close + 2;
    }
    if (t->depth > 0)
        return refuse(t, "a block has no end", "");
    close_cut(t);
    return SL_OK;
}

/* What comes before: the variables. In the older kind also the exchanges: [system, prompt,
 * response], the last one without its response or with the text that is to be continued. */
static void put_prologue(const translator *t, sl_buf *out)
{
    sl_buf_puts(out, "{% set ns = namespace(system='', prompt='', response='', turns=[], "
                     "last=false, first=true) %}");
    if (t->has_messages) {
        sl_buf_puts(out, "{% for m in messages %}{% if m.role == 'system' %}{% set ns.system = "
                         "ns.system + ('\\n\\n' if ns.system else '') + m.content %}{% endif %}"
                         "{% endfor %}");
        return;
    }
    sl_buf_puts(out, "{% for m in messages %}"
                     "{% if (m.role == 'system' and (ns.prompt or ns.response)) or "
                     "(m.role == 'user' and ns.response) %}"
                     "{% set ns.turns = ns.turns + [[ns.system, ns.prompt, ns.response]] %}"
                     "{% set ns.system = '' %}{% set ns.prompt = '' %}{% set ns.response = '' %}"
                     "{% endif %}"
                     "{% if m.role == 'system' %}{% set ns.system = m.content %}"
                     "{% elif m.role == 'user' %}{% set ns.prompt = m.content %}"
                     "{% elif m.role == 'assistant' %}{% set ns.response = m.content %}{% endif %}"
                     "{% endfor %}"
                     "{% set ns.turns = ns.turns + [[ns.system, ns.prompt, ns.response]] %}"
                     "{% for turn in ns.turns %}"
                     "{% set ns.system = turn[0] %}{% set ns.prompt = turn[1] %}"
                     "{% set ns.response = turn[2] %}{% set ns.last = loop.last %}"
                     "{% set ns.first = loop.first %}");
}

bool gotemplate_is(const char *text)
{
    static const char *const words[] = { "if",   "range",  "end",      "else",
                                         "with", "define", "template", "block" };

    if (strstr(text, "{%"))
        return false; /* statements are Jinja's */
    for (const char *p = text; (p = strstr(p, "{{")) != NULL;) {
        p += 2;
        p += *p == '-';
        while (isspace((unsigned char)*p))
            p++;
        if (*p == '.' || *p == '$' || strncmp(p, "/*", 2) == 0)
            return true;
        for (size_t i = 0; i < SL_COUNT_OF(words); i++) {
            size_t len = strlen(words[i]);

            if (strncmp(p, words[i], len) == 0 && !is_name_char(p[len]))
                return true;
        }
    }
    return false;
}

sl_status gotemplate_to_jinja(const char *text, size_t len, sl_buf *out, sl_err *err)
{
    translator t = { .line = 1, .out = out, .err = err };

    t.has_messages = memmem(text, len, ".Messages", 9) != NULL;
    put_prologue(&t, out);
    SL_TRY(translate(&t, text, text + len));
    if (!t.has_messages) {
        if (!memmem(text, len, ".Response", 9))
            sl_buf_puts(out, "{{ ns.response }}");
        sl_buf_puts(out, "{% endfor %}");
    }
    return sl_buf_ok(out, "template", err);
}
