// tools/android/apk.py reads the numbers of defaultConfig from this file: what CI builds is what Gradle builds.
plugins {
    id("com.android.application")
}

android {
    namespace = "hearpack.app"
    compileSdk = 37

    defaultConfig {
        applicationId = "dev.hearpack.sample"
        minSdk = 26
        targetSdk = 37
        versionCode = 1
        versionName = "0.1.0"
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_11
        targetCompatibility = JavaVersion.VERSION_11
    }

    androidResources {
        // LiteRT maps the model into memory: that needs it as it is.
        noCompress += "tflite"
    }

    buildTypes {
        release {
            // Times of a debug build are not for a device profile: a release build runs from Android Studio as it is.
            signingConfig = signingConfigs.getByName("debug")
        }
    }
}

dependencies {
    implementation(project(":core"))
    implementation("com.google.ai.edge.litert:litert:2.2.0")
}
