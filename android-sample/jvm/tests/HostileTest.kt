package hearpack.tests

import hearpack.core.bundle.Bundle
import hearpack.core.bundle.BundleException
import hearpack.core.bundle.ComputeUnit
import hearpack.core.bundle.EngineException
import hearpack.core.bundle.FolderFiles
import hearpack.core.stream.EngineInfo
import hearpack.core.stream.InferenceEngine
import hearpack.core.stream.Pipeline
import hearpack.core.stream.SelfCheck
import org.json.JSONArray
import org.json.JSONObject
import java.io.File
import java.util.concurrent.CompletableFuture
import java.util.concurrent.TimeUnit
import kotlin.test.Test
import kotlin.test.assertEquals
import kotlin.test.assertFalse
import kotlin.test.assertNotNull
import kotlin.test.assertNull
import kotlin.test.assertTrue

/** Bundles that somebody spoiled (tests/fixtures/hostile_bundles.py), through all that the app does at its start. */
class HostileTest {
    private val root = Given.file("hostile")
    private val cases =
        JSONArray(File(root, "cases.json").readText()).let { list ->
            List(list.length()) { list.getJSONObject(it) }
        }

    /** Opens it, loads the model, runs the self-check; why it was refused, null if all is well. */
    private fun start(folder: File): String? {
        val attempt =
            CompletableFuture.supplyAsync {
                try {
                    val bundle = Bundle.open(FolderFiles(folder), Given.API)
                    val report = openEngine(bundle, folder).use { SelfCheck(bundle, it).run() }
                    if (report.passed) null else "the self-check failed: ${report.metric} ${report.figure}"
                } catch (e: BundleException) {
                    e.message
                } catch (e: EngineException) {
                    e.message
                }
            }
        // A pipe that is waited for would never end.
        return attempt.get(60, TimeUnit.SECONDS)
    }

    private fun folder(case: JSONObject) = File(root, case.getString("bundle"))

    @Test fun theGoodBundlePasses() {
        val good = File(root, "good").listFiles()!!.single()
        assertNull(start(good))
        assertEquals(5, Bundle.open(FolderFiles(good), Given.API).labels.size)
    }

    @Test fun everyHostileBundleIsRefusedInOneHarmlessLine() {
        assertTrue(cases.size >= 40, "${cases.size} cases")
        for (case in cases.filter { it.getBoolean("apps") }) {
            val why = assertNotNull(start(folder(case)), "${case.getString("name")} was taken for good")
            assertTrue(why.length <= 300 && why.none { it.isISOControl() }, why)
            assertFalse("a private key" in why, why)
        }
    }

    @Test fun whatNoAppReadsEndsInNoOtherWay() {
        for (case in cases.filter { !it.getBoolean("apps") }) start(folder(case))
    }

    /** Each value of a manifest by turns replaced by one that nobody expects: refused, or a stream that works. */
    @Test fun anyValueOfAManifestIsRefusedOrWorks() {
        val enhancer =
            manifestText(more = ",\"playout\":{\"prefill_samples\":4},\"dsp\":[{\"kind\":\"gain\",\"gain_db\":1}]")
        var refused = 0
        var taken = 0
        for (text in listOf(enhancer, manifestText("classifier", "window", labels = 2))) {
            for (place in places(JSONObject(text), emptyList())) {
                for (odd in ODD) {
                    val changed = JSONObject(text).also { put(it, place, odd) }.toString()
                    if (stream(changed, "$place = $odd")) taken++ else refused++
                }
            }
        }
        assertTrue(refused > 500 && taken > 50, "$refused refused, $taken taken")
    }

    private fun stream(
        manifest: String,
        what: String,
    ): Boolean {
        try {
            val bundle = Bundle.open(fakeFiles(manifest, listOf("a", "b")), Given.API)
            val silent =
                object : InferenceEngine {
                    override val info = EngineInfo("fake", "1", ComputeUnit.CPU, ComputeUnit.CPU, "silent")

                    override fun reset(bank: Int) = Unit

                    override fun run(
                        audio: FloatArray,
                        output: FloatArray,
                        from: Int,
                        to: Int,
                    ) = Unit

                    override fun close() = Unit
                }
            val pipeline = Pipeline(bundle, silent, 48000, 4096, { _, _, _ -> }, {})
            pipeline.push(FloatArray(4096), 0, 4096)
            pipeline.flush()
            return true
        } catch (_: BundleException) {
            return false
        } catch (e: RuntimeException) {
            throw AssertionError("$what: $e", e)
        }
    }

    private fun places(
        value: Any,
        place: List<Any>,
    ): List<List<Any>> =
        when (value) {
            is JSONObject -> {
                value
                    .keys()
                    .asSequence()
                    .toList()
                    .flatMap { places(value.get("$it"), place + "$it") }
            }

            is JSONArray -> {
                (0 until value.length()).flatMap { places(value.get(it), place + it) }
            }

            else -> {
                emptyList()
            }
        } + if (place.isEmpty()) emptyList() else listOf(place)

    private fun put(
        root: Any,
        place: List<Any>,
        value: Any,
    ) {
        var at = root
        for (part in place.dropLast(1)) {
            at =
                if (at is JSONArray) at.get(part as Int) else (at as JSONObject).get("$part")
        }
        if (at is JSONArray) at.put(place.last() as Int, value) else (at as JSONObject).put("${place.last()}", value)
    }

    private companion object {
        val ODD =
            listOf(0, 1, -1, 3, 0.5, 1 shl 24, Int.MAX_VALUE, Long.MAX_VALUE, Long.MIN_VALUE, 1e15, 1e300, -1e300) +
                listOf("", "x", "..", "\u0000", true, JSONObject.NULL, JSONArray(), JSONObject(), JSONArray("[[1]]"))
    }
}
