package hearpack.tests

import hearpack.core.audio.INPUT_LIMIT
import hearpack.core.audio.InputBound
import hearpack.core.audio.InputChain
import hearpack.core.audio.Resampler
import hearpack.core.audio.Stage
import hearpack.core.bundle.Bundle
import hearpack.core.bundle.ComputeUnit
import hearpack.core.stream.EngineInfo
import hearpack.core.stream.InferenceEngine
import hearpack.core.stream.StreamLoop
import org.json.JSONArray
import org.json.JSONObject
import java.io.File
import kotlin.math.abs
import kotlin.test.Test
import kotlin.test.assertEquals

private val golden = JSONObject(File(System.getProperty("fixtures"), "recovery/golden.json").readText())

private fun JSONArray.bits() = List(length()) { getLong(it).toInt() }

private fun List<Int>.floats() = FloatArray(size) { Float.fromBits(this[it]) }

private fun cases(name: String) =
    golden.getJSONArray(name).let { list ->
        List(list.length()) {
            list.getJSONObject(it)
        }
    }

/** The golden's net: infinite at an input of 2, and then spoilt for good. */
class ToyEngine(
    private val step: Boolean,
) : InferenceEngine {
    override val info = EngineInfo("fake", "1", ComputeUnit.CPU, ComputeUnit.CPU, "toy")
    private val h = FloatArray(2)
    var resets = 0

    override fun reset(bank: Int) {
        h[bank] = 0f
        resets++
    }

    override fun run(
        audio: FloatArray,
        output: FloatArray,
        from: Int,
        to: Int,
    ) {
        val y = FloatArray(audio.size) { audio[it] / (2f - abs(audio[it])) }
        if (step) {
            for (i in y.indices) output[i] = y[i] + h[from]
            h[to] = h[from] * 0.5f + y.last()
        } else {
            output[0] = y.first()
            output[1] = y.last()
        }
    }

    override fun close() = Unit
}

/** What a net may be given, and how a stream goes on after output that is not finite: Python's goldens. */
class RecoveryTest {
    @Test fun theBoundIsTheGoldenOne() {
        assertEquals(golden.getDouble("limit").toFloat(), INPUT_LIMIT)
        for (case in cases("bounds")) {
            val block = case.getJSONArray("input_bits").bits().floats()
            val bound = InputBound()
            bound.process(block, 0, block.size)
            assertEquals(case.getJSONArray("output_bits").bits(), block.map { it.toRawBits() }, case.getString("name"))
            assertEquals(case.getLong("nan") to case.getLong("limited"), bound.nanSamples to bound.limitedSamples)
            bound.reset()
            assertEquals(0L to 0L, bound.nanSamples to bound.limitedSamples)
        }
    }

    @Test fun streamsGoOnAsTheGoldenOnes() {
        for (case in cases("streams")) {
            val step = case.getString("kind") == "step"
            val samples = case.getJSONArray("input_bits").bits().floats()
            for (size in listOf(1, 3, 64)) {
                val engine = ToyEngine(step)
                val ends = mutableListOf<Long>()
                val values = mutableListOf<Int>()
                val loop =
                    StreamLoop(engine, toyBundle(step).manifest, { end, came, count ->
                        ends += end
                        for (i in 0 until count) values += came[i].toRawBits()
                    })
                var at = 0
                while (at < samples.size) {
                    val n = minOf(size, samples.size - at)
                    loop.push(samples, at, n)
                    at += n
                }
                val name = "${case.getString("name")}, $step, blocks of $size"
                assertEquals(case.getJSONArray("ends").bits().map { it.toLong() }, ends, name)
                assertEquals(case.getJSONArray("output_bits").bits(), values, name)
                assertEquals(case.getLong("nan_outputs"), loop.nanOutputs, name)
                assertEquals(2 + 2 * loop.nanOutputs.toInt(), engine.resets, name)
            }
        }
    }

    private fun toyBundle(step: Boolean): Bundle =
        if (step) fakeEnhancer() else fakeClassifier(window = golden.getInt("window"), hop = golden.getInt("hop"))

    @Test fun theNetIsBoundedAfterTheStagesToo() {
        val chain = InputChain(listOf(Stage.Gain(20.0)), 16000)
        val block = floatArrayOf(0.1f, 0.5f, -0.9f)
        chain.process(block, 0, 3)
        assertEquals(listOf(4f, -4f), block.drop(1))
        assertEquals(2, chain.limitedSamples)
        chain.reset()
        assertEquals(0, chain.limitedSamples)
    }

    @Test fun theResamplerSaturatesAtEqualRatesToo() {
        val out = FloatArray(8)
        Resampler(16000, 16000).process(FloatArray(4) { if (it == 0) 15136f else -15136f }, 0, 4, out)
        assertEquals(listOf(4f, -4f, -4f, -4f), out.take(4))
    }
}
