"""LangChain's own OpenAI classes against the real binary."""
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings


@pytest.fixture(scope="module")
def chat(real):
    return ChatOpenAI(model="smollm2", base_url=real.base + "/v1", api_key="x", temperature=0, max_tokens=12,
                      max_retries=0)


def test_invoke_and_stream_are_one_text(chat):
    messages = [SystemMessage("You are brief."), HumanMessage("Name a colour.")]
    answer = chat.invoke(messages)
    assert isinstance(answer, AIMessage) and answer.content
    assert answer.usage_metadata["output_tokens"] <= 12
    assert answer.response_metadata["finish_reason"] in ("stop", "length")
    assert "".join(chunk.content for chunk in chat.stream(messages)) == answer.content
    assert [a.content for a in chat.batch([messages, messages])] == [answer.content] * 2


def test_logprobs(chat):
    answer = chat.bind(logprobs=True, top_logprobs=2).invoke("Hi")
    told = len(answer.response_metadata["logprobs"]["content"])
    assert told in (answer.usage_metadata["output_tokens"], answer.usage_metadata["output_tokens"] - 1)  # the last ends the text


def test_embeddings(real):
    model = OpenAIEmbeddings(model="minilm", base_url=real.base + "/v1", api_key="x", check_embedding_ctx_length=False)
    vectors = model.embed_documents(["a cat", "a kitten", "stock prices"])
    query = model.embed_query("a cat")

    def dot(a, b):
        return sum(x * y for x, y in zip(a, b))

    assert dot(query, vectors[0]) == pytest.approx(1, abs=1e-4)
    assert dot(vectors[0], vectors[1]) > dot(vectors[0], vectors[2])
