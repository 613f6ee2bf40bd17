package hearpack.tests

import hearpack.core.bundle.Bundle
import hearpack.core.bundle.EngineException
import hearpack.core.bundle.StreamException
import hearpack.core.stream.CallMeter
import hearpack.core.stream.SoundEvent
import hearpack.core.stream.StageGate
import hearpack.core.stream.StageListener
import hearpack.core.stream.StageNet
import hearpack.core.stream.Stages
import org.json.JSONArray
import org.json.JSONObject
import java.io.File
import kotlin.test.Test
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertTrue

/** Several nets on one stream, against what Python's streaming/core/stages.py gives: every call, bit and event. */
class StagesTest {
    private val golden = JSONObject(File(System.getProperty("fixtures"), "stages/golden.json").readText())
    private val input = golden.getJSONArray("input").let { all -> FloatArray(all.length()) { all.getInt(it) / 32768f } }
    private val labels = golden.getJSONArray("labels").let { all -> List(all.length()) { all.getString(it) } }

    private fun bundle(fields: JSONObject): Bundle {
        val samples = fields.getInt("samples")
        val hop = fields.getInt("hop")
        val rate = fields.getInt("rate_hz")
        if (fields.getString("task") == "enhancer") {
            val text = manifestText(window = samples, hop = hop, delay = samples, rate = rate)
            return Bundle.open(fakeFiles(text), Given.API)
        }
        val text = manifestText("classifier", "window", samples, hop, 0, labels.size, rate)
        return Bundle.open(fakeFiles(text, labels), Given.API)
    }

    private fun nets(case: JSONObject): List<StageNet> {
        val fields = case.getJSONArray("nets")
        return List(fields.length()) { i ->
            val net = fields.getJSONObject(i)
            val bundle = bundle(net)
            val gate = net.optJSONArray("gate")?.let { StageGate(it.getInt(0), it.getInt(1)) }
            StageNet(bundle, FakeEngine(bundle), if (net.isNull("hears")) null else net.getInt("hears"), gate)
        }
    }

    /** What the stages gave, as the fixture has it. */
    private class Told(
        nets: List<StageNet>,
    ) : StageListener {
        val order = mutableListOf<Int>()
        val audio = nets.map { mutableListOf<Long>() }
        val events = mutableListOf<List<Any?>>()

        fun meter(stage: Int) =
            object : CallMeter {
                override fun begin(endSample: Long) {
                    order += stage
                }

                override fun end() = Unit

                override fun failed(message: String) = Unit
            }

        override fun onAudio(
            stage: Int,
            endSample: Long,
            samples: FloatArray,
            count: Int,
        ) {
            for (i in 0 until count) audio[stage] += samples[i].toRawBits().toLong() and 0xffffffffL
        }

        override fun onEvent(
            stage: Int,
            event: SoundEvent,
        ) {
            val e = event
            events += listOf(stage, e.index, e.onsetSample, e.offsetSample, e.confidence, e.emittedAtSample)
        }

        fun clear() {
            order.clear()
            audio.forEach { it.clear() }
            events.clear()
        }
    }

    private fun rows(all: JSONArray) =
        List(all.length()) { i ->
            val e = all.getJSONArray(i)
            val offset = if (e.isNull(3)) null else e.getLong(3)
            listOf(e.getInt(0), e.getInt(1), e.getLong(2), offset, e.getDouble(4), e.getLong(5))
        }

    private fun ints(all: JSONArray) = List(all.length()) { all.getInt(it) }

    @Test fun everyPartitionGivesPythonsCallsSoundAndEvents() {
        val cases = golden.getJSONArray("cases")
        assertTrue(cases.length() >= 5)
        for (c in 0 until cases.length()) {
            val case = cases.getJSONObject(c)
            val nets = nets(case)
            val told = Told(nets)
            val stages = Stages(nets, case.getInt("rate_hz"), input.size, told, told::meter)
            for (seed in 0..4) {
                told.clear()
                stages.reset()
                var at = 0
                for (n in partition(input.size, if (seed == 0) input.size else null, seed)) {
                    stages.push(input.copyOf(), at, n)
                    at += n
                }
                stages.flush()
                val name = "${case.getString("name")}, seed $seed"
                assertEquals(ints(case.getJSONArray("order")), told.order, name)
                assertEquals(rows(case.getJSONArray("events")), told.events, name)
                val audio = case.getJSONObject("audio")
                for (i in nets.indices) {
                    val expected = audio.optJSONArray("$i") ?: JSONArray()
                    assertEquals(List(expected.length()) { expected.getLong(it) }, told.audio[i].toList(), "$name: $i")
                }
                assertEquals(ints(case.getJSONArray("calls")), nets.indices.map { stages.calls(it).toInt() }, name)
            }
        }
    }

    @Test fun aFailedEngineEndsTheStreamUntilAReset() {
        val case = golden.getJSONArray("cases").getJSONObject(0)
        val nets = nets(case)
        val told = Told(nets)
        val engine = nets[1].engine as FakeEngine
        engine.failAt = 3
        val stages = Stages(nets, 16_000, input.size, told)
        assertFailsWith<EngineException> { stages.push(input.copyOf(), 0, input.size) }
        assertFailsWith<StreamException> { stages.push(input.copyOf(), 0, 1) }
        told.clear()
        stages.reset()
        stages.push(input.copyOf(), 0, input.size)
        stages.flush()
        assertEquals(rows(case.getJSONArray("events")), told.events)
        assertFailsWith<StreamException> { stages.push(input.copyOf(), 0, 1) }
    }

    @Test fun whatDoesNotFitIsNamed() {
        val enhancer = fakeEnhancer().let { StageNet(it, FakeEngine(it)) }
        val classifier = fakeClassifier().let { StageNet(it, FakeEngine(it)) }

        fun with(
            first: StageNet,
            hears: Int? = null,
            gate: StageGate? = null,
        ) = listOf(first, StageNet(enhancer.bundle, enhancer.engine, hears, gate))
        for (wrong in listOf(
            emptyList(),
            with(classifier, hears = 0),
            with(enhancer, hears = 1),
            with(enhancer, gate = StageGate(0, 0)),
            with(classifier, gate = StageGate(1, 0)),
            with(classifier, gate = StageGate(0, 2)),
        )) {
            assertFailsWith<IllegalArgumentException> { Stages(wrong, 16_000, 4, object : StageListener {}) }
        }
    }
}
