/* html_noise.c - finds what a page repeats on every other page: navigation, banners, footers, lists
 * of links.
 *
 * Three signs: what an element is (nav, aside, role=navigation), what its author called it (class
 * and id), and how much of its text is links. None of them counts for an element that holds half of
 * the page's text or the main part: then it is the document. */
#include <strings.h>

#include "reader/html.h"

/* Per element, in a table that node->_private points into. */
typedef struct weight {
    uint32_t text, link;     /* bytes of words in it; of these, in links */
    uint32_t links;          /* links in it */
    bool is_noise, has_main; /* has_main: main, article or h1 is in it */
} weight;

const char *html_attr(const xmlNode *n, const char *name)
{
    for (const xmlAttr *a = n->properties; a; a = a->next)
        if (strcasecmp((const char *)a->name, name) == 0)
            return a->children && a->children->content ? (const char *)a->children->content : "";
    return "";
}

static bool is_one_of(const xmlNode *n, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (html_is(n, names[i]))
            return true;
    return false;
}

bool html_is_silent(const xmlNode *n)
{
    static const char *const names[] = { "script", "style",  "noscript", "template", "head",
                                         "iframe", "object", "embed",    "svg",      "canvas",
                                         "button", "select", "input",    "textarea", "datalist",
                                         "audio",  "video",  "map",      "dialog",   "option" };

    if (n->type != XML_ELEMENT_NODE)
        return n->type != XML_TEXT_NODE && n->type != XML_CDATA_SECTION_NODE;
    return is_one_of(n, names, SL_COUNT_OF(names));
}

bool html_is_noise(const xmlNode *n)
{
    const weight *w = n->_private;

    return w && w->is_noise;
}

/* ---- signs ---------------------------------------------------------------------------------- */

static bool is_hidden(const xmlNode *n)
{
    const char *style = html_attr(n, "style");

    for (const xmlAttr *a = n->properties; a; a = a->next)
        if (strcasecmp((const char *)a->name, "hidden") == 0)
            return true;
    return strcasecmp(html_attr(n, "aria-hidden"), "true") == 0 ||
           strcasestr(style, "display:none") || strcasestr(style, "display: none");
}

static bool has_role(const xmlNode *n)
{
    static const char *const roles[] = { "navigation", "banner",  "contentinfo", "complementary",
                                         "search",     "dialog",  "alertdialog", "menu",
                                         "menubar",    "toolbar", "tablist" };
    const char *role = html_attr(n, "role");

    for (size_t i = 0; i < SL_COUNT_OF(roles); i++)
        if (strcasecmp(role, roles[i]) == 0)
            return true;
    return false;
}

/* One of the words of a class or id ("site-nav", "cookie_banner") says what it is. */
static bool is_called_noise(const char *text)
{
    static const char *const words[] = {
        "nav",           "navbar",    "navigation", "menu",       "breadcrumb", "breadcrumbs",
        "sidebar",       "footer",    "masthead",   "cookie",     "cookies",    "consent",
        "gdpr",          "share",     "sharing",    "social",     "advert",     "ads",
        "advertisement", "sponsored", "promo",      "newsletter", "subscribe",  "related",
        "popup",         "modal",     "skip",       "skiplink",   "pagination", "pager",
        "toolbar",       "paywall",   "login",      "signup",     "banner",
    };

    while (*text) {
        size_t n = strcspn(text, " -_\t\n");

        for (size_t i = 0; i < SL_COUNT_OF(words); i++)
            if (n == strlen(words[i]) && strncasecmp(text, words[i], n) == 0)
                return true;
        text += n + (text[n] != '\0');
    }
    return false;
}

static bool is_inside(const xmlNode *n, const char *const *names, size_t count)
{
    for (n = n->parent; n; n = n->parent)
        if (is_one_of(n, names, count))
            return true;
    return false;
}

static bool is_block(const xmlNode *n)
{
    static const char *const names[] = { "div", "ul",      "ol", "section", "table",   "p",   "dl",
                                         "nav", "article", "td", "center",  "details", "span" };

    return is_one_of(n, names, SL_COUNT_OF(names));
}

/* The sign beside a heading that links to it: "¶" or "#". */
static bool is_permalink(const xmlNode *n)
{
    const char *class = html_attr(n, "class");
    const xmlNode *text = n->children;

    if (!html_is(n, "a"))
        return false;
    if (strstr(class, "headerlink") || strstr(class, "permalink"))
        return true;
    return text && !text->next && text->type == XML_TEXT_NODE && text->content &&
           (strcmp((const char *)text->content, "#") == 0 ||
            strcmp((const char *)text->content, "\xc2\xb6") == 0);
}

/* Mostly links, and of few words each: a list of ways to other pages. */
static bool is_link_list(const weight *w)
{
    return w->links >= 4 && w->link * 10 > (uint64_t)w->text * 7 && w->text / w->links < 60;
}

static bool is_noise(const xmlNode *n, const weight *w, size_t total)
{
    static const char *const kinds[] = { "nav", "aside", "form" };
    static const char *const edges[] = { "header", "footer" };
    static const char *const parts[] = { "article", "main", "section", "blockquote" };

    if (is_hidden(n) || is_permalink(n))
        return true;
    if (w->has_main || w->text * 2 > total)
        return false;
    if (is_one_of(n, kinds, SL_COUNT_OF(kinds)) || has_role(n))
        return true;
    if (is_one_of(n, edges, SL_COUNT_OF(edges)) && !is_inside(n, parts, SL_COUNT_OF(parts)))
        return true;
    if (!is_block(n))
        return false;
    return is_called_noise(html_attr(n, "class")) || is_called_noise(html_attr(n, "id")) ||
           (!html_is(n, "p") && !html_is(n, "span") && is_link_list(w));
}

/* ---- weights -------------------------------------------------------------------------------- */

static uint32_t words_len(const xmlNode *n)
{
    uint32_t sum = 0;

    for (const xmlChar *p = n->content; p && *p; p++)
        sum += *p > ' ';
    return sum;
}

/* The next node in document order, not into silent elements. *ret_up: it was reached by going up.
 */
static xmlNode *next_node(xmlNode *root, xmlNode *n, bool *up)
{
    if (!*up && n->children && n->type == XML_ELEMENT_NODE && !html_is_silent(n))
        return n->children;
    *up = false;
    if (n == root)
        return NULL;
    if (n->next)
        return n->next;
    *up = true;
    return n->parent;
}

static void add_to_parent(const xmlNode *root, const xmlNode *n, const weight *w)
{
    weight *above = n != root && n->parent ? n->parent->_private : NULL;

    if (!above)
        return;
    above->text += w->text;
    above->link += html_is(n, "a") ? w->text : w->link;
    above->links += w->links + html_is(n, "a");
    above->has_main = above->has_main || w->has_main || html_is(n, "main") ||
                      html_is(n, "article") || html_is(n, "h1");
}

/* Gives every element its weight. */
static size_t weigh(xmlNode *root, weight *table, size_t count)
{
    size_t used = 0;
    bool up = false;
    xmlNode *n = root;

    while (n) {
        weight *w = n->_private;

        if (!up && n->type == XML_ELEMENT_NODE && !html_is_silent(n) && used < count)
            n->_private = &table[used++];
        if (n->type == XML_TEXT_NODE && n->parent && n->parent->_private)
            ((weight *)n->parent->_private)->text += words_len(n);
        w = n->_private;
        if (w && (up || !n->children))
            add_to_parent(root, n, w);
        n = next_node(root, n, &up);
    }
    return root->_private ? ((weight *)root->_private)->text : 0;
}

void *html_mark_noise(xmlNode *root, size_t node_count, size_t *ret_left)
{
    weight *table = sl_calloc(node_count + 1, sizeof *table);
    size_t total, left;
    bool up = false;

    *ret_left = 0;
    if (!table)
        return NULL;
    left = total = weigh(root, table, node_count);
    for (xmlNode *n = root; n; n = next_node(root, n, &up)) {
        weight *w = n->_private;

        if (up || !w || n == root)
            continue;
        w->is_noise = is_noise(n, w, total);
        if (w->is_noise) {
            left -= SL_MIN(left, (size_t)w->text);
            up = true; /* nothing in it counts again */
        }
    }
    *ret_left = left;
    return table;
}
