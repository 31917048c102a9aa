/* lang.c - the language of a question, and what is said in it when no document answers.
 *
 * A question has few words, so statistics over letters say little: scripts decide where they can,
 * and else the words that every sentence has. A wrong guess costs nothing but a sentence in the
 * wrong language; without any hint it is English. */
#include "rag/lang.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/attr.h"
#include "base/buf.h"

#define WORD_BYTES  24
#define WORDS_MAX   200 /* more tell nothing new */
#define CJK_WEIGHT  3   /* a character of these is nearly a word */
#define WORD_POINTS 2
#define MARK_POINTS 3 /* a letter that few languages have */

typedef struct language {
    const char *tag;
    const char *nothing;
    const char *words; /* its frequent words, each with a space behind it; "": by script alone */
    const char *marks; /* letters that point to it */
} language;

static const language languages[] = {
    { "en", "I found nothing about this in the documents.",
      "the is are was were what which who how why when where does do did can could should would of "
      "and or for with this that there have has from not ",
      "" },
    { "de", "Dazu habe ich in den Dokumenten nichts gefunden.",
      "der die das den dem des ein eine einen einem einer ist sind war wird werden wie was wer wo "
      "warum wann welche welcher welches und oder nicht für mit von zu zum zur auf im ich wir kann "
      "gibt es nach bei über ",
      "ß" },
    { "fr", "Je n'ai rien trouvé à ce sujet dans les documents.",
      "le la les un une des du de est sont était que qui quoi quel quelle quels quelles comment "
      "pourquoi quand où et ou ne pas pour avec dans sur je nous peut il elle ce cette au aux ",
      "œêûî" },
    { "es", "No he encontrado nada sobre esto en los documentos.",
      "el la los las un una unos unas de del es son está era que qué quién cuál cuáles cómo cuándo "
      "dónde por para con en y o no se lo al puedo puede hay cuánto cuántos ",
      "ñ¿¡" },
    { "it", "Non ho trovato nulla su questo nei documenti.",
      "il lo la i gli le un uno una di del della dei delle è sono era che chi cosa quale quali "
      "come "
      "perché quando dove e o non per con nel nella si può c'è quanto quanti ",
      "ìò" },
    { "pt", "Não encontrei nada sobre isso nos documentos.",
      "o a os as um uma de do da dos das é são está era que quem qual quais como quando onde "
      "porque "
      "por para com em no na nos nas e ou não se ao posso pode há quanto quantos ",
      "ãõ" },
    { "nl", "Ik heb hierover niets gevonden in de documenten.",
      "de het een is zijn was wat wie welke hoe waarom wanneer waar en of niet voor met van in op "
      "te "
      "naar ik wij kan wordt worden er dit dat die bij uit door ",
      "ĳ" },
    { "pl", "Nie znalazłem nic na ten temat w dokumentach.",
      "jest są był była co kto jak jaki jaka jakie który która które dlaczego kiedy gdzie czy i "
      "lub "
      "nie dla z ze w we na do od po o się to ten ta ",
      "ąęłżśźćń" },
    { "tr", "Belgelerde bununla ilgili bir şey bulamadım.",
      "bir bu ve veya ne nedir nasıl neden niçin kim hangi nerede zaman kaç mi mı mu mü için ile "
      "de "
      "da değil var yok olan olarak ",
      "ğşı" },
    { "vi", "Tôi không tìm thấy gì về điều này trong tài liệu.",
      "là và của có không các những một cho với trong được thế nào gì ai khi đâu tại sao bao nhiêu "
      "như ở này đó làm ",
      "đơưạảấầậắặẹếềểệịọốồộớờợụứừựỳỹ" },
    { "sv", "Jag hittade inget om detta i dokumenten.",
      "är var vad vem vilken vilket vilka hur varför när och eller inte för med av en ett den det "
      "de i på till som jag vi kan finns ska ",
      "å" },
    { "zh", "在文档中没有找到与此相关的内容。", "", "" },
    { "zh-Hant", "在文件中沒有找到與此相關的內容。", "",
      "這個們為麼說裡嗎會與對應點開關種樣國學時間問題" },
    { "ja", "文書の中に、これに関する内容は見つかりませんでした。", "", "" },
    { "ko", "문서에서 이에 관한 내용을 찾지 못했습니다.", "", "" },
    { "ru", "В документах об этом ничего не найдено.", "", "" },
    { "uk", "У документах про це нічого не знайдено.", "", "іїєґ" },
    { "ar", "لم أجد شيئًا عن هذا في المستندات.", "", "" },
    { "fa", "در اسناد چیزی در این باره پیدا نکردم.", "", "پچژگکی" },
    { "th", "ไม่พบข้อมูลเกี่ยวกับเรื่องนี้ในเอกสาร", "", "" },
    { "el", "Δεν βρήκα τίποτα σχετικό στα έγγραφα.", "", "" },
    { "he", "לא מצאתי על כך דבר במסמכים.", "", "" },
    { "hi", "मुझे दस्तावेज़ों में इस बारे में कुछ नहीं मिला।", "", "" },
};

static const language *find_language(const char *tag)
{
    for (size_t i = 0; i < SL_COUNT_OF(languages); i++)
        if (strcmp(languages[i].tag, tag) == 0)
            return &languages[i];
    return &languages[0];
}

const char *lang_nothing(const char *tag)
{
    return find_language(tag)->nothing;
}

/* ---- scripts ------------------------------------------------------------------------------- */

typedef struct script {
    uint32_t first, last;
    const char *tag; /* NULL: Latin */
    int weight;
} script;

static const script scripts[] = {
    { 'A', 'Z', NULL, 1 },
    { 'a', 'z', NULL, 1 },
    { 0xc0, 0x24f, NULL, 1 },
    { 0x1ea0, 0x1eff, NULL, 1 },
    { 0x370, 0x3ff, "el", 1 },
    { 0x400, 0x52f, "ru", 1 },
    { 0x590, 0x5ff, "he", 1 },
    { 0x600, 0x6ff, "ar", 1 },
    { 0x900, 0x97f, "hi", 1 },
    { 0xe00, 0xe7f, "th", 1 },
    { 0x3040, 0x30ff, "ja", CJK_WEIGHT },
    { 0x3400, 0x9fff, "zh", CJK_WEIGHT },
    { 0xac00, 0xd7af, "ko", CJK_WEIGHT },
};

static int script_of(uint32_t cp)
{
    for (size_t i = 0; i < SL_COUNT_OF(scripts); i++)
        if (cp >= scripts[i].first && cp <= scripts[i].last)
            return (int)i;
    return -1;
}

/* How many characters of text are among those of marks. */
static int count_marks(const char *text, size_t len, const char *marks)
{
    uint32_t cp, mark;
    int count = 0;

    for (size_t at = 0, n; at < len; at += n) {
        n = sl_utf8_decode(text + at, len - at, &cp);
        n = n ? n : 1;
        for (size_t m = 0, k; n > 1 && marks[m]; m += k) {
            k = sl_utf8_decode(marks + m, strlen(marks + m), &mark);
            k = k ? k : 1;
            if (mark == cp) {
                count++;
                break;
            }
        }
    }
    return count;
}

/* NULL: mostly Latin letters, or none at all. */
static const char *by_script(const char *text, size_t len)
{
    int points[SL_COUNT_OF(scripts)] = { 0 }, latin = 0, best = -1, kana = 0;
    uint32_t cp;

    for (size_t at = 0, n; at < len; at += n) {
        int s;

        n = sl_utf8_decode(text + at, len - at, &cp);
        s = n ? script_of(cp) : -1;
        n = n ? n : 1;
        if (s < 0)
            continue;
        if (!scripts[s].tag) {
            latin++;
            continue;
        }
        points[s] += scripts[s].weight;
        kana += strcmp(scripts[s].tag, "ja") == 0;
        if (best < 0 || points[s] > points[best])
            best = s;
    }
    if (best < 0 || points[best] < latin)
        return NULL;
    if (kana && strcmp(scripts[best].tag, "zh") == 0)
        return "ja"; /* Chinese characters with kana between them */
    return scripts[best].tag;
}

/* Languages that share a script with a more frequent one have letters of their own. */
static const char *refine(const char *tag, const char *text, size_t len)
{
    static const char *const pairs[][2] = { { "zh", "zh-Hant" }, { "ru", "uk" }, { "ar", "fa" } };

    for (size_t i = 0; i < SL_COUNT_OF(pairs); i++)
        if (strcmp(pairs[i][0], tag) == 0 &&
            count_marks(text, len, find_language(pairs[i][1])->marks) > 0)
            return pairs[i][1];
    return tag;
}

/* ---- words --------------------------------------------------------------------------------- */

static uint32_t lower(uint32_t cp)
{
    if ((cp >= 'A' && cp <= 'Z') || (cp >= 0xc0 && cp <= 0xde && cp != 0xd7))
        return cp + 32;
    if ((cp >= 0x100 && cp <= 0x137) || (cp >= 0x14a && cp <= 0x177) ||
        (cp >= 0x1ea0 && cp <= 0x1eff))
        return cp | 1;
    if ((cp >= 0x139 && cp <= 0x148) || (cp >= 0x179 && cp <= 0x17e))
        return cp % 2 ? cp + 1 : cp;
    return cp;
}

static bool is_word_char(uint32_t cp)
{
    int s = script_of(cp);

    return s >= 0 && !scripts[s].tag;
}

/* Appends cp while a space fits behind it. */
static size_t put_char(char *word, size_t at, uint32_t cp)
{
    char bytes[4];
    size_t n = sl_utf8_encode(cp, bytes);

    if (at + n + 2 > WORD_BYTES)
        return at;
    memcpy(word + at, bytes, n);
    return at + n;
}

/* The next word in lower case, a space in front and behind; 0 at the end. */
static size_t next_word(const char *text, size_t len, size_t *at, char word[WORD_BYTES])
{
    size_t n, size = 1;
    uint32_t cp;

    word[0] = ' ';
    for (; *at < len; *at += n) {
        n = sl_utf8_decode(text + *at, len - *at, &cp);
        n = n ? n : 1;
        if (is_word_char(cp))
            size = put_char(word, size, lower(cp));
        else if (size > 1)
            break;
    }
    word[size] = ' ';
    word[size + 1] = '\0';
    return size - 1;
}

static bool has_word(const char *list, const char *word)
{
    const char *p = strstr(list, word + 1);

    while (p && p != list && p[-1] != ' ')
        p = strstr(p + 1, word + 1);
    return p != NULL;
}

static const char *by_words(const char *text, size_t len)
{
    int points[SL_COUNT_OF(languages)] = { 0 };
    char word[WORD_BYTES + 2];
    size_t best = 0, at = 0;

    for (int w = 0; w < WORDS_MAX && next_word(text, len, &at, word); w++)
        for (size_t i = 0; i < SL_COUNT_OF(languages); i++)
            points[i] += has_word(languages[i].words, word) ? WORD_POINTS : 0;
    for (size_t i = 0; i < SL_COUNT_OF(languages); i++) {
        if (!languages[i].words[0])
            continue;
        points[i] += MARK_POINTS * count_marks(text, len, languages[i].marks);
        if (points[i] > points[best])
            best = i;
    }
    return languages[best].tag;
}

const char *lang_of(const char *text, size_t len)
{
    const char *tag = by_script(text, len);

    return tag ? refine(tag, text, len) : by_words(text, len);
}
